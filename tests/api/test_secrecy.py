"""Nothing secret is ever written, neither in the logs of real processes at level debug nor in error reports."""

import asyncio
import contextlib
import gzip
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote

import httpx
import pytest
from redis.asyncio import Redis

from shared.acl import set_user
from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.settings import Settings
from tests.api.bad_requests import JOIN, STRANGER, TICKET
from tests.support.calls import client, enter, join, leave, redeem, status, try_enter, try_join, try_redeem
from tests.support.pass_keys import new_key
from tests.support.processes import Api, Process, Worker
from tests.support.visits import ask_gate, visit_room
from tests.support.waiting import eventually

Client = Any
"""A plain client of Redis: redis-py types every answer as if it might not have to be awaited."""

# All that must stay unwritten has this in it, but for tokens: of those it is the MAC.
HUSH = "hush"
SECRET, ADMIN_KEY, PASSWORD = f"{HUSH}-a-secret-that-signs", f"{HUSH}-an-operators-key", f"{HUSH}-a-password-of-redis"
PASS_KEY = new_key()
DSN_KEY = "f00dfacef00dfacef00dfacef00dface"
SHOP = "https://shop.example"
USER, LABEL, KEY = f"{HUSH}-verified@example.org", f"{HUSH}-label", f"{HUSH}-idempotency-key"


class Reports:
    """A server of Sentry's protocol as far as a client sees, which keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        kept = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kept.append((gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body).decode())
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOCALHOST, 0), Handler)
        self.dsn = f"http://{DSN_KEY}@{LOCALHOST}:{self._server.server_port}/1"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def events(self) -> list[Any]:
        """What was reported."""
        return [json.loads(line) for body in self.bodies for line in body.splitlines() if '"exception"' in line]

    def errors(self) -> list[tuple[str, str]]:
        """Type and value of each error in it."""
        return [(error["type"], error["value"]) for event in self.events() for error in event["exception"]["values"]]


@pytest.fixture
def reports() -> Iterator[Reports]:
    with Reports() as started:
        yield started


class ChattyApi(Api):
    """Under uvicorn with its access log, which writes down every path and query."""

    def __init__(self, redis_url: str, **settings: Any) -> None:
        super().__init__(redis_url, server="uvicorn", **settings)

    @property
    def command(self) -> list[str]:
        return [part for part in super().command if part != "--no-access-log"]


@pytest.fixture
async def redis(own_server: RedisServer) -> AsyncIterator[Client]:
    """Its administrator."""
    async with Redis.from_url(own_server.url) as client:
        yield client


@pytest.fixture
def given(own_server: RedisServer, reports: Reports) -> dict[str, Any]:
    return {
        "redis_url": f"redis://daegi:{PASSWORD}@{LOCALHOST}:{own_server.port}/0",
        "token_secrets": [SECRET],
        "admin_keys": [ADMIN_KEY],
        "pass_keys": [PASS_KEY],
        "public_url": "https://queue.example",
        "trusted_user_header": "X-User-Id",
        "sentry_dsn": reports.dsn,
        "log_level": "debug",
        "heartbeat_ttl": 30,
    }


async def everything_people_do(http: httpx.AsyncClient, event: str) -> list[str]:
    """Well-formed and other requests with secrets wherever they may be; all the tokens in them."""
    first = (await join(http, event, key=KEY, user=USER))["waiting_token"]
    second = (await join(http, event, key=KEY + "-2", label=LABEL))["waiting_token"]
    polled = (await status(http, first))["waiting_token"]
    reservation = (await enter(http, polled))["reservation_token"]
    strangers = STRANGER.waiting(event, TICKET)
    for_others = (await redeem(http, reservation))["pass_jwt"]
    tokens = [first, second, polled, reservation, strangers, for_others]
    for token in tokens:
        for spoilt in (token, token[:-1], token.replace("~", "%7E"), token + "&x=1", f"{token}~{HUSH}"):
            await http.get(f"/api/v1/queue/status?token={spoilt}", headers={"X-Request-ID": token})
            await http.get(f"/api/v1/queue/status?x=1&token={spoilt}")
            await try_enter(http, spoilt)
            await try_redeem(http, spoilt)
    await leave(http, second)
    await try_join(http, event, key=KEY, label=f"{LABEL}-2")
    await try_join(http, event, label=f"{HUSH}" * 100)
    await http.post(JOIN, content=f'{{"event_id": "{event}", "user_id": {HUSH}}}')
    await http.post(JOIN, content=f'{{"event_id": "{HUSH} {HUSH}"}}')
    for key in (ADMIN_KEY, f"{ADMIN_KEY}-wrong"):
        headers = {"Authorization": f"Bearer {key}"}
        await http.get(f"/api/v1/admin/events/{event}", headers=headers)
        await http.put(f"/api/v1/admin/events/{event}", headers=headers, json={HUSH: HUSH, "rate": HUSH})
    return tokens


async def harm(http: httpx.AsyncClient, redis: Client, event: str, tokens: list[str]) -> None:
    """Makes every step fail in one way after another that nobody expects."""
    keys = Keys().event(event)

    async def ask() -> None:
        await try_join(http, event, key=KEY, user=USER)
        await try_join(http, event, key=f"{KEY}-3", user=f"{USER}-3")
        for token in tokens:
            await http.get(f"/api/v1/queue/status?token={token}", headers={"X-Request-ID": token})
            await try_enter(http, token)
            await try_redeem(http, token)
            await leave(http, token)

    # Who was let in is somebody unreadable.
    entered = (await join(http, event, user=f"{USER}-4"))["waiting_token"]
    reservation = (await enter(http, entered))["reservation_token"]
    ticket = entered.split("~")[2]
    await redis.hset(keys.passes, ticket, await redis.hget(keys.passes, ticket) + b"\xff")
    assert (await try_redeem(http, reservation)).status_code == 500
    tokens += [entered, reservation]
    for key in (keys.places, keys.dedupe_new, keys.passes, keys.stream, keys.state):
        await redis.delete(key)
        await redis.set(key, f"{USER} {LABEL}")
        await ask()
        await redis.delete(key)
    await redis.hset(keys.state, "schema", 99)
    await ask()


@pytest.mark.parametrize("kind", [Api, ChattyApi])
async def test_neither_logs_nor_reports_hold_anything_secret(
    redis: Client, reports: Reports, given: dict[str, Any], kind: type[Api], event: str
) -> None:
    await redis.execute_command(*set_user(Settings.model_validate(given)).split())
    url = given.pop("redis_url")
    api, worker = kind(url, **given), Worker(url, **given)
    locked_out = Api(url.replace(PASSWORD, f"{PASSWORD}-wrong"), probe="/healthz", **given)
    with contextlib.ExitStack() as stack:
        for process in (api, worker, locked_out):
            await asyncio.to_thread(stack.enter_context, process)
        async with client(locked_out.url) as http:
            assert (await try_join(http, event, key=KEY, user=USER)).status_code == 503
        async with client(api.url) as http:
            tokens = await everything_people_do(http, event)
            await harm(http, redis, event, tokens)

        async def reported() -> bool:
            return len(reports.errors()) >= 10 and "passed over" in worker.log()

        await eventually(reported)
        logs = {process: stop_and_read(process) for process in (api, worker, locked_out)}
    for process, log in logs.items():
        assert secrets_in(log, tokens) == [], process.module
        assert DSN_KEY not in log
        assert not any(line in log for line in PASS_KEY.splitlines())
    # They were as talkative as they can be.
    assert '"level": "debug"' in logs[api]
    assert "\\u2192 sweep()" in logs[worker]
    assert "a request failed" in logs[api]
    assert "AuthenticationError" in logs[locked_out]
    assert ("/api/v1/queue/status?token=[redacted]" in logs[api]) == (kind is ChattyApi)
    assert secrets_in("\n".join(reports.bodies), tokens) == []
    assert {"ResponseError", "UnicodeDecodeError"} <= {type_ for type_, _ in reports.errors()}
    # An operator finds the event and the answer.
    tags = [found["tags"] for found in reports.events()]
    assert any(tag.get("event_id") == event and "trace_id" in tag for tag in tags)
    assert all("trace_id" in tag or tag.get("event_id") == event for tag in tags)


async def everything_visitors_do(http: httpx.AsyncClient, event: str) -> list[str]:
    """The way through room and gate with good and spoilt cookies; all that is in the cookies."""
    http.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "X-User-Id": USER})
    seen: list[str] = []

    async def keep() -> None:
        seen.extend(value for name, value in http.cookies.items() if name.startswith("daegi_"))

    operator = {"Authorization": f"Bearer {ADMIN_KEY}"}
    for rate in (0, 100):
        body = {"rate": rate, "burst": rate, "targets": [SHOP]}
        await http.put(f"/api/v1/admin/events/{event}", headers=operator, json=body)
        await visit_room(http, event)
        await keep()
        for what in ("join", "place", "enter", "leave", "join", "enter"):
            for key in (KEY, HUSH):
                how = "GET" if what == "place" else "POST"
                path = f"/waiting-room/{event}/{what}"
                await http.request(how, path, headers={"Idempotency-Key": key, "Accept": "application/json"})
                await keep()
        for dialect in ("nginx", "forwarded", "envoy"):
            await ask_gate(http, event, dialect=dialect)
        await keep()
    # To a site elsewhere, and back with what it was told: its own session of the visitor has ended.
    elsewhere = SHOP
    for _ in range(2):
        elsewhere = (await visit_room(http, event, quote(elsewhere, safe=""))).headers["location"]
        assert elsewhere.startswith(f"{SHOP}?daegi_pass=")
        seen.append(elsewhere.partition("=")[2])
    names = {name: value for name, value in http.cookies.items() if name.startswith("daegi_")}
    for spoil in (lambda it: it[:-1], lambda it: f"{it}~{HUSH}", lambda it: it.replace("~", "%7E"), lambda it: HUSH):
        async with httpx.AsyncClient(base_url=http.base_url, headers=http.headers) as other:
            other.headers["Cookie"] = "; ".join(f"{name}={spoil(value)}" for name, value in names.items())
            other.headers["X-Request-ID"] = names[next(name for name in names if name.startswith("daegi_p_"))]
            await visit_room(other, event)
            await ask_gate(other, event)
            await other.post(f"/waiting-room/{event}/leave")
            await other.post(f"/api/v1/gate/{event}/release", json={"reservation_token": HUSH})
    return list(dict.fromkeys(seen))


async def test_nor_does_what_visitors_do_at_room_and_gate_leave_a_trace(
    redis: Client, reports: Reports, given: dict[str, Any], own_server: RedisServer, event: str
) -> None:
    given["redis_url"] = own_server.url
    api = ChattyApi(given.pop("redis_url"), **given)
    with api:
        async with client(api.url) as http:
            kept = await everything_visitors_do(http, event)
            assert {value.partition("~")[0] for value in kept if "~" in value} == {"w", "p"}
            assert any(value.startswith("eyJ") for value in kept)
            keys = Keys().event(event)
            for key in (keys.sessions, keys.ended, keys.state, keys.passes, keys.config, keys.stream):
                await redis.delete(key)
                await redis.set(key, f"{USER} {LABEL}")
                await http.post(f"/api/v1/gate/{event}/release")
                await asyncio.sleep(1.1)
                for what in ("join", "enter", "leave"):
                    await http.post(f"/waiting-room/{event}/{what}", headers={"Accept": "application/json"})
                await http.get(f"/waiting-room/{event}")
                await ask_gate(http, event)
                await redis.delete(key)

            async def reported() -> bool:
                return bool(reports.errors())

            await eventually(reported)
        log = stop_and_read(api)
    tokens = [value for value in kept if "~" in value]
    probes = [value for value in kept if "~" not in value]
    assert probes
    for text in (log, "\n".join(reports.bodies)):
        assert secrets_in(text, tokens) == []
        assert [probe for probe in probes if probe in text] == []
    assert '"level": "debug"' in log
    assert "a request failed" in log


def stop_and_read(process: Process) -> str:
    process.stop()
    return process.log()


def secrets_in(text: str, tokens: list[str]) -> list[str]:
    """Lines with something of ours in them; a MAC without its last letter is one too."""
    macs = [token.rpartition("~")[2][:-1] for token in tokens]
    return [line for line in text.splitlines() if any(secret in line for secret in (HUSH, *macs))]
