"""What sessions cost Redis, and how long it takes somebody to walk in.

    python -m tests.load.sessions                     a few minutes
    python -m tests.load.sessions --part line --sessions 100000

line: people join, enter, arrive and renew through shared/line, without HTTP, in one Redis on a core of its own. Calls:
the ms of Redis CPU (used_cpu_* of INFO, without the cost of INFO) of single calls: half of them / 99 % of them / the
most. Unlike the time of the slow log, it is not stretched by other processes on the machine.
walk-ins: an api process under granian, a worker and Redis, with nothing else to do; one visitor after the other comes
to the room and is sent on with a pass. The first of their two requests only shows that they keep cookies.
"""

import argparse
import asyncio
import dataclasses
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from redis import Redis

from shared.dev.redis_server import RedisServer, RedisServerError
from shared.line.line import Line, Renewal
from shared.line.replies import EnterCode
from shared.redis.connect import connect
from shared.settings import Settings
from tests.load.prefill import fill
from tests.load.rig import RigError, check_tools, redis_on_load_core
from tests.support.browser import Client, Page
from tests.support.processes import Api, Worker
from tests.support.settings import OPERATOR

PARTS: Final = ("line", "walk-ins")
EVENT: Final = "sessions"
BATCH: Final = 256
"""Renewals in one call, as the gate sends them at most."""
ENTERS: Final = 64
PIECE: Final = 100 * ENTERS
"""People who join before the next of them enter."""
RELEASED: Final = (1000, 100_000)
SESSION_TTL: Final = 3600.0
NEVER_MS: Final = 10**12
ASKED: Final = 2000
"""Polls of `ended` whose median is taken."""
LIMIT_MS: Final = 5.0
PAUSE: Final = 0.02
"""Seconds between two who walk in."""

Say = Callable[[str], None]


def say(text: str) -> None:
    """Progress, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Work:
    """What many calls took: us a ticket, as the caller waits and of Redis CPU; ms of Redis CPU a call, rising."""

    us: float
    redis_us: float
    calls: list[float]

    def __str__(self) -> str:
        """Half of the calls / 99 % of them / the most."""
        most = self.calls[int(0.99 * len(self.calls))]
        return f"{statistics.median(self.calls):.2f} / {most:.2f} / {self.calls[-1]:.2f}"


class Sessions:
    """An event full of them. Its clock can be moved ahead, and then session time never goes back."""

    def __init__(self, url: str, redis: Redis) -> None:
        self.tickets: list[int] = []
        self._redis = redis
        self._ahead_us = 0
        # Those who enter first have to wait for the last before they arrive.
        given = {"redis_url": url, "admit_rate": 1_000_000, "admit_burst": 10_000_000, "pass_ttl": 300}
        settings = Settings.model_validate(given)
        self._heartbeat_ttl = settings.heartbeat_ttl + settings.pass_ttl
        self._client = connect(settings, "daegi-sessions")
        self._line = Line(self._client, settings, lambda: time.time_ns() // 1000 + self._ahead_us)
        self._reading = statistics.median(-(self._cpu() - self._cpu()) for _ in range(101))

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    def memory(self) -> int:
        """Bytes that Redis uses."""
        info: Any = self._redis.info("memory")
        return int(info["used_memory"])

    async def begin(self, count: int) -> None:
        """Lets so many join and enter."""
        settings = {"max_active": str(2 * count), "session_ttl": str(round(SESSION_TTL * 1000))}
        await self._line.configure(EVENT, settings)
        while len(self.tickets) < count:
            tickets = await fill(self._line, EVENT, min(PIECE, count - len(self.tickets)))
            for some in _pieces(tickets, ENTERS):
                _, entered = await self._line.enter(EVENT, some)
                assert all(one.code == EnterCode.GRANTED for one in entered)
            self.tickets += tickets

    async def renew(self) -> Work:
        """Everybody renews, in any order."""
        order = random.sample(self.tickets, len(self.tickets))
        batches = list(_pieces(order, BATCH))
        now = time.time_ns() // 1_000_000 + self._ahead_us // 1000

        async def renew() -> bool:
            renewed = await self._line.renew(EVENT, [Renewal(ticket, now, now) for ticket in batches.pop()])
            assert all(renewed.ends)
            return bool(batches)

        return await self._measure(len(order), renew)

    async def forget_reservations(self) -> None:
        """Moves the clock to where nobody can ask for their reservation any more; the sweep drops them."""
        self._ahead_us += round(self._heartbeat_ttl * 1e6) + 1_000_000
        while await self._sweep():
            pass

    async def ended(self) -> float:
        """Us that the once-a-second question takes when nothing has changed."""
        version = (await self._line.ended(EVENT, -1)).version
        took = []
        for _ in range(ASKED):
            began = time.perf_counter()
            assert (await self._line.ended(EVENT, version)).tickets is None
            took.append(time.perf_counter() - began)
        return statistics.median(took) * 1e6

    async def release(self, count: int) -> None:
        """Releases the last of them."""
        doomed, self.tickets = self.tickets[-count:], self.tickets[:-count]
        for some in _pieces(doomed, BATCH):
            await self._line.release(EVENT, some)

    async def learn(self) -> tuple[int, Work]:
        """How many were released, and what it takes to read all of them."""
        count = 0

        async def learn() -> bool:
            nonlocal count
            count = len((await self._line.ended(EVENT, -1)).tickets or ())
            return False

        work = await self._measure(1, learn)
        return count, work

    async def prune(self) -> Work:
        """All sessions have ended; the sweep takes them out, a hundred a call."""
        self._ahead_us += round(SESSION_TTL * 1e6) + 10_000_000
        work = await self._measure(len(self.tickets), self._sweep)
        assert (await self._line.describe(EVENT)).active == 0
        return work

    async def _sweep(self) -> bool:
        """One visit of the sweep; whether there is more to do."""
        return (await self._line.reap(EVENT, interrupted=0, longest_gap=NEVER_MS, limit=BATCH)).more

    async def _measure(self, each: int, call: Callable[[], Awaitable[bool]]) -> Work:
        """Measures a call that is made until it says that there is nothing more, for so many tickets altogether."""
        took, calls, more = 0.0, list[float](), True
        while more:
            cpu, began = self._cpu(), time.perf_counter()
            more = await call()
            took += time.perf_counter() - began
            calls.append(self._cpu() - cpu - self._reading)
        return Work(took / each * 1e6, sum(calls) / each, sorted(one / 1000 for one in calls))

    def _cpu(self) -> float:
        info: Any = self._redis.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6


async def measure_line(url: str, redis: Redis, count: int) -> list[tuple[str, str]]:
    """The figures of so many sessions, with their names."""
    sessions = Sessions(url, redis)
    try:
        before = sessions.memory()
        say(f"{count:,} join and enter")
        await sessions.begin(count)
        fresh = sessions.memory() - before
        say("they arrive, then renew")
        arrived, renewed = await sessions.renew(), await sessions.renew()
        say("their reservations are forgotten")
        await sessions.forget_reservations()
        alone = sessions.memory() - before
        found = [
            ("bytes of a session", f"{alone / count:.0f}"),
            ("bytes with the reservation, kept for heartbeat_ttl + pass_ttl", f"{fresh / count:.0f}"),
            (f"arrivals/s, batches of {BATCH}", f"{1e6 / arrived.us:,.0f}"),
            (f"renewals/s, batches of {BATCH}", f"{1e6 / renewed.us:,.0f}"),
            ("Redis CPU us a renewal", f"{renewed.redis_us:.1f}"),
            ("a batch of renewals, ms of Redis CPU", str(renewed)),
        ]
        for number in RELEASED:
            say(f"{number:,} are released")
            await sessions.release(min(number, len(sessions.tickets) // 2))
            released, learnt = await sessions.learn()
            name = f"poll of `ended`, {released:,} released, ms (of Redis CPU)"
            found.append((name, f"{learnt.us / 1000:.1f} ({learnt.redis_us / 1000:.1f})"))
        found.append(("poll of `ended`, nothing new, us", f"{await sessions.ended():.0f}"))
        say("the others' sessions end")
        pruned = await sessions.prune()
        found += [
            ("Redis CPU us a session pruned", f"{pruned.redis_us:.1f}"),
            (f"a prune call, ms of Redis CPU (at most {LIMIT_MS:.0f})", str(pruned)),
        ]
        return found
    finally:
        await sessions.close()


async def measure_walk_ins(count: int) -> list[tuple[str, str]]:
    """The figures of so many walk-ins."""
    with RedisServer() as redis, Api(redis.url) as api, Worker(redis.url), closing(Client([api.port])) as client:
        say(f"{count:,} walk in")
        settings = {"rate": 1_000_000, "burst": 10_000_000, "max_active": 2 * count}
        answer = await client.ask("PUT", f"/api/v1/admin/events/{EVENT}", settings, OPERATOR)
        assert answer.status == 200, answer
        took = []
        for _ in range(count):
            await asyncio.sleep(PAUSE)
            took.append(await _walk_in(client))
        last, both = ([times[part] * 1000 for times in took] for part in (0, 1))
        return [("walk-in, p50 / p95 ms", _p50_p95(last)), ("with the request before it, p50 / p95 ms", _p50_p95(both))]


async def _walk_in(client: Client) -> tuple[float, float]:
    """Seconds of the request that lets somebody in, and of both requests."""
    headers, url = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}, f"/waiting-room/{EVENT}?next=/checkout"
    began = time.perf_counter()
    probed = await client.fetch("GET", url, b"", headers)
    asked = time.perf_counter()
    answer = await client.fetch("GET", probed.header("location"), b"", {**headers, "Cookie": _cookie(probed)})
    done = time.perf_counter()
    assert answer.header("location") == "/checkout", answer
    assert _cookie(answer).startswith("daegi_p_")
    return done - asked, done - began


def _cookie(page: Page) -> str:
    return page.header("set-cookie").partition(";")[0]


def _p50_p95(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=20)
    return f"{cuts[9]:.1f} / {cuts[18]:.1f}"


def _pieces(tickets: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (tickets[start : start + size] for start in range(0, len(tickets), size))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.sessions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="at the same time (%(default)s)")
    parser.add_argument("--visits", type=int, default=1000, help="walk-ins (%(default)s)")
    options = parser.parse_args(argv)
    if options.sessions < 1000 or options.visits < 20:
        parser.error("there are at least 1000 sessions and 20 visits")
    found: list[tuple[str, str]] = []
    try:
        if "line" in options.part:
            check_tools()
            with redis_on_load_core() as (url, redis):
                found += asyncio.run(measure_line(url, redis, options.sessions))
        if "walk-ins" in options.part:
            found += asyncio.run(measure_walk_ins(options.visits))
    except (RigError, RedisServerError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    for name, figure in found:
        print(f"{name:<66}{figure:>20}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
