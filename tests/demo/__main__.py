"""`make demo`: a toy shop behind a proxy with our recipe, Daegi as its gate, and a crowd in front of you."""

import argparse
import asyncio
import signal
import sys
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack

import httpx

from shared.dev.redis_server import LOCALHOST, RedisServer, RedisServerError
from tests.demo.crowd import Crowd
from tests.demo.plain_proxy import PlainProxy
from tests.demo.shop import Shop
from tests.proxies.proxy import Caddy, Nginx, Proxy
from tests.support.processes import Api, Worker
from tests.support.settings import ADMIN_KEY

EVENT = "demo"
RATE = 2

PROXIES: dict[str, type[Proxy | PlainProxy]] = {"nginx": Nginx, "caddy": Caddy, "plain": PlainProxy}
"""In the order of preference; the last needs nothing."""


def main() -> int:
    """Runs until Ctrl-C, which ends all of it; the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--crowd", type=int, default=60, help="people in front of you (60)")
    parser.add_argument("--proxy", choices=PROXIES, help="instead of the first that is installed")
    options = parser.parse_args()
    try:
        asyncio.run(_run(options.crowd, PROXIES[options.proxy] if options.proxy else _installed()))
    except RedisServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _installed() -> type[Proxy | PlainProxy]:
    return next((kind for kind in (Nginx, Caddy) if kind.is_installed()), PlainProxy)


async def _run(people: int, kind: type[Proxy | PlainProxy]) -> None:
    over = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, over.set)
    async with AsyncExitStack() as stack:
        started = stack.enter_context(ExitStack())

        def start() -> tuple[Api, Proxy | PlainProxy]:
            redis = started.enter_context(RedisServer())
            api = started.enter_context(Api(redis.url, trusted_address_header="X-Forwarded-For"))
            started.enter_context(Worker(redis.url))
            shop = started.enter_context(Shop())
            proxy: Proxy | PlainProxy = kind(gate=api.port, shop=shop.port, event=EVENT)
            # What both have in common as contexts is no more than this.
            context: AbstractContextManager[object] = proxy
            started.enter_context(context)
            return api, proxy

        print("Starting Redis, the api, a worker, a shop and a proxy ...", flush=True)
        # A Ctrl-C meanwhile is heard when they are there, and ends them.
        api, proxy = await asyncio.to_thread(start)
        if over.is_set():
            return
        await _declare(api)
        crowd = Crowd(api.url, EVENT)
        stack.push_async_callback(crowd.leave)
        await crowd.join(people)
        coming = asyncio.create_task(crowd.keep_coming(RATE / 2))
        stack.callback(coming.cancel)
        print(_words(proxy, api, people), flush=True)
        await over.wait()
        print("\nThat was it. Ending all of it ...", flush=True)


async def _declare(api: Api) -> None:
    settings = {
        "rate": RATE,
        "burst": RATE,
        "session_ttl": 120,
        "title": "The toy shop's big sale",
        "message": "This is a demo: two people a second are let in.",
    }
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as http:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        (await http.put(f"/api/v1/admin/events/{EVENT}", json=settings, headers=headers)).raise_for_status()


def _words(proxy: Proxy | PlainProxy, api: Api, people: int) -> str:
    return f"""
A shop behind {proxy.name}, with {people} people in front of it, of whom {RATE} a second are let in:

    http://{LOCALHOST}:{proxy.port}/

Open it, wait about {people // RATE} s, and you are in. A private window is another person. The room by itself:

    http://{LOCALHOST}:{proxy.port}/waiting-room/{EVENT}

You are the operator, too. "paused", "rate", "max_active", "title" and "message" change while people wait:

    curl -X PUT {api.url}/api/v1/admin/events/{EVENT} -H "Authorization: Bearer {ADMIN_KEY}" -d '{{"paused": true}}'

Ctrl-C ends all of it."""


if __name__ == "__main__":
    sys.exit(main())
