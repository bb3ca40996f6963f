"""What each step of the line costs Redis in lines of several lengths, without HTTP.

All lines are in one Redis and take turns, so that a machine's drift affects them alike.
"""

import asyncio
import dataclasses
import os
import random
import statistics
import time
import timeit
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from redis import Redis

from shared.line.line import CHUNK, Join, Line
from shared.line.replies import EnterCode, Index, JoinCode
from shared.redis.connect import connect
from shared.settings import Settings

KINDS: Final = ("plain", "keyed", "user")
"""Joins of a user with a label, of one with an Idempotency-Key, of a verified user."""

BATCH: Final = 256
SMALL: Final = 64
JOINS: Final = 1024  # by which a line grows for a moment
ENTERS: Final = 512
POLLS: Final = 40  # batches of SMALL
REFRESHES: Final = 6  # chunks
SLOW_US: Final = 100  # shorter calls are not recorded; a batch takes longer
_NEVER_MS: Final = 10**12
_PAST_HEARTBEAT_US: Final = 301_000_000

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Cost:
    """A step at one length of line: Redis CPU us each (median, least and most of the rounds), longest calls in us."""

    us: float
    low: float
    high: float
    longest: int  # of all rounds
    longest_usual: int  # the median of the rounds' longest: other processes on the machine stretch single calls


@dataclasses.dataclass
class _Crowd:
    """One line and the people in it."""

    event: str
    kind: str
    size: int
    tickets: "array[int]"
    gone: set[int] = dataclasses.field(default_factory=set)

    def some(self, count: int) -> list[int]:
        """This many of the people in line, at random."""
        found: dict[int, None] = {}
        while len(found) < min(count, len(self.tickets) - len(self.gone)):
            ticket = random.choice(self.tickets)
            if ticket not in self.gone:
                found[ticket] = None
        return list(found)

    def remove(self, tickets: Sequence[int]) -> None:
        """Removes these tickets."""
        self.gone.update(tickets)
        if len(self.gone) * 4 > len(self.tickets):
            self.tickets = array("q", (ticket for ticket in self.tickets if ticket not in self.gone))
            self.gone.clear()


class Meter:
    """Redis CPU and the longest call of each step, by the step's name and the line's size."""

    def __init__(self, redis: Redis) -> None:
        self.costs: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        self._redis = redis
        redis.config_set("slowlog-log-slower-than", SLOW_US)
        redis.config_set("slowlog-max-len", 10_000)
        self._reading = statistics.median(-(self._cpu() - self._cpu()) for _ in range(51))

    def _cpu(self) -> float:
        info: Any = self._redis.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6

    async def measure(self, step: str, size: int, each: int, work: Callable[[], Awaitable[Any]]) -> Any:
        """Measures the awaited work, which does the step `each` times."""
        self._redis.slowlog_reset()
        before = self._cpu()
        result = await work()
        used = self._cpu() - before - self._reading
        self.costs[step, size].append((used / each, self.longest()))
        return result

    def longest(self) -> int:
        """The longest single command since the last reset in us; a script counts as one."""
        entries: Any = self._redis.slowlog_get(10_000)
        return max((entry["duration"] for entry in entries if not entry["command"].startswith(b"SLOWLOG")), default=0)

    def summary(self) -> dict[str, dict[int, Cost]]:
        """Step -> size -> cost."""
        found: dict[str, dict[int, Cost]] = defaultdict(dict)
        for (step, size), samples in self.costs.items():
            us, longest = [one for one, _ in samples], [call for _, call in samples]
            usual = int(statistics.median(longest))
            found[step][size] = Cost(statistics.median(us), min(us), max(us), max(longest), usual)
        return dict(found)


@dataclasses.dataclass(frozen=True)
class Lines:
    """What was measured."""

    costs: dict[str, dict[int, Cost]]
    bytes_each: dict[str, dict[int, float]]
    index_bytes: dict[int, int]
    index_parse_us: dict[int, float]
    fill_longest: dict[int, int]  # us, of the calls that filled a line


class _Measurement:
    def __init__(self, redis: Redis, line: Line, later: Line, ticking: Line, say: Say) -> None:
        self._redis, self._line, self._later, self._ticking, self._say = redis, line, later, ticking, say
        self._meter = Meter(redis)
        self._serial = 0

    async def run(self, sizes: Sequence[int], rounds: int) -> Lines:
        crowds, bytes_each, fill_longest = list[_Crowd](), defaultdict[str, dict[int, float]](dict), dict[int, int]()
        for size in sizes:
            for kind in KINDS:
                self._say(f"filling: {size:,} waiters, {kind}")
                self._redis.slowlog_reset()
                before = self._memory()
                crowds.append(await self._fill(kind, size))
                bytes_each[kind][size] = (self._memory() - before) / size
                fill_longest[size] = max(fill_longest.get(size, 0), self._meter.longest())
        for number in range(rounds):
            turn = number % len(crowds)
            for crowd in crowds[turn:] + crowds[:turn]:
                self._say(f"round {number + 1} of {rounds}: {crowd.size:,} waiters, {crowd.kind}")
                await self._round(crowd)
        index_bytes, index_parse_us = {}, {}
        for crowd in crowds:
            if crowd.kind == "plain":
                blob: Any = self._redis.get(self._line.keys.event(crowd.event).position_index)
                index_bytes[crowd.size] = len(blob)
                index_parse_us[crowd.size] = _parse_us(blob)
        return Lines(self._meter.summary(), dict(bytes_each), index_bytes, index_parse_us, fill_longest)

    def _memory(self) -> int:
        info: Any = self._redis.info("memory")
        return int(info["used_memory"])

    async def _fill(self, kind: str, size: int) -> _Crowd:
        crowd = _Crowd(f"scale-{kind}-{size}", kind, size, array("q"))
        left = size
        while left > 0:
            await self._join(crowd, min(BATCH, left))
            left -= BATCH
        return crowd

    async def _join(self, crowd: _Crowd, count: int) -> None:
        joins = list(self._joins(crowd.kind, count))
        batch = await self._line.enqueue(crowd.event, joins, may_create=True)
        tickets = [joined.ticket for joined in batch.joined]
        await self._line.confirm(crowd.event, tickets, batch.standing.now, note_activity=False)
        assert all(joined.code == JoinCode.NEW for joined in batch.joined)
        crowd.tickets.extend(tickets)

    def _joins(self, kind: str, count: int) -> Iterator[Join]:
        for _ in range(count):
            self._serial += 1
            who = b"00000001-%08d" % self._serial  # as long as the labels that load.lua sends
            yield Join(os.urandom(24) if kind == "keyed" else b"", (b"v" if kind == "user" else b"u") + who)

    async def _round(self, crowd: _Crowd) -> None:
        meter, size, kind = self._meter, crowd.size, crowd.kind
        for batch in (BATCH, SMALL):
            await meter.measure(f"join {kind}, batches of {batch}", size, JOINS, partial(self._join_all, crowd, batch))
            left = JOINS
            if kind == "plain" and batch == SMALL:
                await self._enter(crowd)
                left -= ENTERS
            await self._expire(crowd, left)
        if kind == "plain":
            await self._look(crowd)

    async def _join_all(self, crowd: _Crowd, batch: int) -> None:
        for _ in range(JOINS // batch):
            await self._join(crowd, batch)

    async def _look(self, crowd: _Crowd) -> None:
        meter, line, event = self._meter, self._line, crowd.event
        polls = [crowd.some(SMALL) for _ in range(POLLS)]
        chunks = [crowd.some(CHUNK) for _ in range(REFRESHES)]

        async def poll() -> None:
            for tickets in polls:
                await line.poll(event, tickets)

        async def refresh() -> None:
            for tickets in chunks:
                await line.refresh(event, tickets)

        await meter.measure("exact poll, batches of 64", crowd.size, POLLS * SMALL, poll)
        await meter.measure("refreshed heartbeat, chunks of 500", crowd.size, sum(map(len, chunks)), refresh)
        assert await meter.measure("position index", crowd.size, 1, lambda: self._ticking.publish_index(event))

    async def _expire(self, crowd: _Crowd, count: int) -> None:
        keys = self._line.keys.event(crowd.event)
        doomed: Any = self._redis.zrange(keys.heartbeat, 0, count - 1)

        async def reap() -> int:
            expired = 0
            for _ in range(count // BATCH):
                done = await self._later.reap(crowd.event, interrupted=0, longest_gap=_NEVER_MS, limit=BATCH)
                expired += done.expired
            return expired

        step = f"expiry {crowd.kind}, batches of {BATCH}"
        assert await self._meter.measure(step, crowd.size, count, reap) == count
        crowd.remove([int(ticket) for ticket in doomed])

    async def _enter(self, crowd: _Crowd) -> None:
        """The people at the head enter. They have been called; each batch that enters calls the next one."""
        line, event, keys = self._line, crowd.event, self._line.keys.event(crowd.event)
        await line.configure(event, {"rate": "1000000", "burst": "1000000"})
        head: Any = self._redis.zrange(keys.queue, 0, ENTERS - 1)
        tickets = list(map(int, head))
        await asyncio.sleep(0.02)  # until there are enough tokens
        await line.poll(event, tickets[:1])

        async def enter() -> list[int]:
            codes = []
            for start in range(0, ENTERS, SMALL):
                _, entered = await line.enter(event, tickets[start : start + SMALL])
                codes += [one.code for one in entered]
            return codes

        codes = await self._meter.measure(f"enter, batches of {SMALL}", crowd.size, ENTERS, enter)
        assert set(codes) == {EnterCode.GRANTED}
        await line.configure(event, {"rate": "0", "burst": "0"})
        called: Any = self._redis.zrange(keys.called, 0, -1)
        left = list(map(int, called))
        await line.leave(event, left)
        await self._join(crowd, len(left))
        crowd.remove(tickets + left)


def _parse_us(blob: bytes) -> float:
    """The CPU us that an ingress needs to parse an index."""
    return min(timeit.repeat(lambda: Index.parse(blob), number=20, repeat=5)) / 20 * 1e6


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[Line, Line, Line]]:
    """A normal line, one whose clock is past every heartbeat's TTL, and one whose clock ticks in seconds."""
    # Nobody is called while nobody enters: the door's cost is measured only with enters.
    settings = Settings.model_validate({"redis_url": url, "admit_rate": 0, "admit_burst": 0})
    redis = connect(settings, "daegi-scale")
    ticks = 0

    def now() -> int:
        return time.time_ns() // 1000

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return now() + ticks * 1_100_000

    try:
        yield (
            Line(redis, settings),
            Line(redis, settings, lambda: now() + _PAST_HEARTBEAT_US),
            Line(redis, settings, tick),
        )
    finally:
        await redis.aclose()


async def measure_lines(url: str, redis: Redis, sizes: Sequence[int], rounds: int, say: Say) -> Lines:
    """Fills the lines and measures. Redis has to be empty, with no other clients."""
    async with _opened(url) as (line, later, ticking):
        return await _Measurement(redis, line, later, ticking, say).run(sizes, rounds)
