"""What people cost who listen for their place, and what a deploy does to them.

    python -m tests.load.listeners                    about four minutes
    python -m tests.load.listeners --part deploy

listen: an api process under granian, a worker and Redis, and a line of 50,000 that moves; 1, 1,000, 10,000 listen from
far back, for 30 s each. Commands of Redis are those of INFO commandstats, what scripts call among them, without the
door's, which calls as many whether anybody listens or not. Memory and CPU are those of the api process.
deploy: two processes, one of which ends (SIGTERM) while 5,000 listen to it; they come back to the other as they are
told to.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, cast

import httpx
import uvloop
from redis import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.tokens.signer import Signer
from tests.load.prefill import fill, open_line
from tests.support.calls import client, configure, status
from tests.support.listening import STREAM
from tests.support.processes import Api, Worker
from tests.support.settings import SECRET

EVENT: Final = "listeners"
PEOPLE: Final = 50_000
RATE: Final = 50
NEAREST: Final = 15_000
"""Behind the exact zone, which at 50 people/s are the first 9,000."""
CROWDS: Final = (1, 1_000, 10_000)
SECONDS: Final = 30.0
LISTENERS: Final = 5_000
OPENED_AT_ONCE: Final = 200
DATA: Final = re.compile(rb"event: (\w+)\ndata: (.*)\n")


class Ear(asyncio.Protocol):
    """One stream; it counts what it is told."""

    def __init__(self, token: str) -> None:
        self.events: Counter[str] = Counter()
        self.bytes = 0
        self.told: dict[str, Any] = {}
        self.first, self.over = asyncio.Event(), asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._head = f"GET {STREAM}?token={token} HTTP/1.1\r\nHost: daegi\r\n\r\n".encode()

    def itself(self) -> "Ear":
        """What makes the protocol of a connection."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the stream."""
        # uvloop's is none of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        """Events are so small that each comes in one piece."""
        self.bytes += len(data)
        for name, text in DATA.findall(data):
            self.events[name.decode()] += 1
            self.told = json.loads(text)
            self.first.set()
            if name == b"bye":
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended."""
        self.over.set()

    def close(self) -> None:
        """Hangs up."""
        assert self.transport is not None
        self.transport.close()
        self.over.set()


async def listen(port: int, tokens: Sequence[str]) -> list[Ear]:
    """Opens a stream for each, some at a time; returns when all have heard where they stand."""
    ears: list[Ear] = []
    loop = asyncio.get_running_loop()
    for start in range(0, len(tokens), OPENED_AT_ONCE):
        some = [Ear(token) for token in tokens[start : start + OPENED_AT_ONCE]]
        await asyncio.gather(*(loop.create_connection(ear.itself, LOCALHOST, port) for ear in some))
        async with asyncio.timeout(60):
            await asyncio.gather(*(ear.first.wait() for ear in some))
        ears += some
    return ears


class Meters:
    """What a process and Redis have used since."""

    def __init__(self, api: Api, redis: Redis) -> None:
        # It serves from a child.
        children = [one for one in api.family() if one.pid != api.process.pid]
        self._process = max(children, key=lambda one: one.memory_info().rss)
        self._redis = redis
        self._cpu, self._calls, self._at = self._cpu_now(), self._calls_now(), time.monotonic()
        self._redis_cpu = self._redis_cpu_now()

    def rss(self) -> int:
        """Bytes of memory."""
        return int(self._process.memory_info().rss)

    def read(self) -> tuple[float, dict[str, float], float]:
        """The share of a core, the calls a second by command, and the share of a core that Redis used."""
        seconds = time.monotonic() - self._at
        calls = {name: (calls - self._calls.get(name, 0)) / seconds for name, calls in self._calls_now().items()}
        redis = (self._redis_cpu_now() - self._redis_cpu) / seconds
        return (self._cpu_now() - self._cpu) / seconds, calls, redis

    def _cpu_now(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _calls_now(self) -> dict[str, int]:
        found: Any = self._redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()}

    def _redis_cpu_now(self) -> float:
        found: Any = self._redis.info("cpu")
        return float(found["used_cpu_user"] + found["used_cpu_sys"])


def spread(crowd: int, tickets: Sequence[int]) -> list[int]:
    """So many tickets from all over the line behind the exact zone."""
    behind = len(tickets) - NEAREST
    return [tickets[NEAREST + i * behind // crowd] for i in range(crowd)]


async def prepare(http: httpx.AsyncClient, url: str) -> list[int]:
    """A line of PEOPLE that moves."""
    await configure(http, EVENT, rate=RATE, burst=1)
    async with open_line(url) as line:
        return await fill(line, EVENT, PEOPLE)


def tokens_of(tickets: Sequence[int]) -> list[str]:
    """As of a poll a moment ago."""
    signer, now = Signer([SECRET]), time.time_ns() // 1_000_000
    return [signer.waiting(EVENT, ticket, now - 500) for ticket in tickets]


async def measure_listening() -> None:
    """The first part."""
    heads = ("listeners", "CPU", "Redis CPU", "scripts/s", "commands/s", "events/s", "bytes/s", "KB each")
    print(" ".join(f"{head:>10}" for head in heads))
    for crowd in CROWDS:
        await measure_crowd(crowd)


async def measure_crowd(crowd: int) -> None:
    """So many, with everything new: after 90 s the silent at the head step aside, which costs Redis more."""
    with ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer())
        api = stack.enter_context(Api(redis_server.url))
        stack.enter_context(Worker(redis_server.url))
        redis = stack.enter_context(Redis.from_url(redis_server.url))
        async with client(api.url) as http:
            tickets = await prepare(http, redis_server.url)
            await status(http, tokens_of(tickets[-1:])[0])
            await asyncio.sleep(5)
            empty = Meters(api, redis).rss()
            ears = await listen(api.port, tokens_of(spread(crowd, tickets)))
            await asyncio.sleep(3)
            meters, told, sent = Meters(api, redis), heard(ears), sum(ear.bytes for ear in ears)
            await asyncio.sleep(SECONDS)
            cpu, calls, redis_cpu = meters.read()
            events, size = (heard(ears) - told) / SECONDS, (sum(ear.bytes for ear in ears) - sent) / SECONDS
            # One more does not show beside what else comes and goes.
            each = (meters.rss() - empty) / crowd / 1024 if crowd > 1 else 0.0
            print(
                f"{crowd:>10,} {cpu:>10.1%} {redis_cpu:>10.1%} {calls.get('evalsha', 0.0):>10.1f} "
                f"{sum(calls.values()):>10.0f} {events:>10.1f} {size:>10.0f} {each:>10.1f}",
                flush=True,
            )
            most = sorted(((rate, name) for name, rate in calls.items() if rate >= 1), reverse=True)
            print("  of these a second:", ", ".join(f"{rate:.1f} {name}" for rate, name in most), file=sys.stderr)
            for ear in ears:
                ear.close()


def heard(ears: Sequence[Ear]) -> int:
    """Events so far."""
    return sum(ear.events.total() for ear in ears)


async def measure_deploy() -> None:
    """The second part."""
    with ExitStack() as stack:
        redis_server = stack.enter_context(RedisServer())
        old, new = (stack.enter_context(Api(redis_server.url)) for _ in range(2))
        stack.enter_context(Worker(redis_server.url))
        async with client(old.url) as http:
            tickets = spread(LISTENERS, await prepare(http, redis_server.url))
            ears = await listen(old.port, tokens_of(tickets))
            began = time.monotonic()
            ended = asyncio.create_task(asyncio.to_thread(old.stop))
            returns = [
                asyncio.create_task(come_back(ear, ticket, new.port, began))
                for ear, ticket in zip(ears, tickets, strict=True)
            ]
            code = await ended
            ended_after = time.monotonic() - began
            back = await asyncio.gather(*returns)
        lost = sum(one is None for one in back)
        times = [one for one in back if one is not None]
        print(
            f"the process ended after {ended_after:.1f} s with {code}; of {LISTENERS:,} who listened {lost} were lost"
        )
        for second, count in sorted(Counter(int(one) for one in times).items()):
            print(f"{second:>3} s {count:>5} back")


async def come_back(ear: Ear, ticket: int, port: int, began: float) -> float | None:
    """Listens until the goodbye, and again as told; when (s) they heard of their place again, None if they did not."""
    async with asyncio.timeout(60):
        await ear.over.wait()
    if not ear.events["bye"]:
        return None
    await asyncio.sleep(ear.told["reconnect_ms"] / 1000)
    (again,) = await listen(port, tokens_of([ticket]))
    again.close()
    return time.monotonic() - began if again.events["place"] and again.told["status"] == "waiting" else None


def main() -> int:
    """Measures one part, or all."""
    parts = {"listen": measure_listening, "deploy": measure_deploy}
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.listeners", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=parts, action="append", help="instead of all")
    for part in parser.parse_args().part or parts:
        uvloop.run(parts[part]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
