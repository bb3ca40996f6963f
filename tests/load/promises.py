"""How true promised waits are, and how much of the rate comes in: `python -m tests.load.promises`.

Simulated crowds on the real scripts and a clock that the simulation moves. They poll when the api would tell them to;
a sweep comes every 5 s and an index every second. The table has a row for each scenario:

    in/s        people let in per second, from 20 s after the first join until a tenth is left; and of the rate
    first poll  waits of at least 5 s that were promised at somebody's first poll: how many; by how much of the true
                wait they were off, median and 90th percentile; and the median of promised / true: above 1 is too long
    every poll  the same of all promises, after the last change of settings
    late        the longest, in s, that somebody came in after somebody behind them, beyond the pause before their poll
"""

import argparse
import asyncio
import heapq
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from api.queue.answers import Answers
from api.queue.forecast import eta
from shared.dev.redis_server import RedisServer
from shared.line.line import Join, Line, Renewal
from shared.line.replies import EnterCode, PollCode, Standing
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer

EVENT = "promises"
STEP = 0.1
"""Seconds by which the clock is moved."""
BATCH, ENTERS = 256, 100
SETTLED, WORTH = 20.0, 5.0


class Change(NamedTuple):
    """What an operator does, so many seconds after the first join."""

    at: float
    settings: dict[str, str]


class Inside(NamedTuple):
    """A cap, and how people behave who are inside: times in s.

    `stay` is the mean of the time in which they make requests, `spread` its standard deviation by the mean. Afterwards
    the share `release` gives the place back at once, the others' sessions run out. The share `lost` never arrives.
    """

    max_active: int
    session_ttl: float
    stay: float
    spread: float = 1.0
    release: float = 0.5
    lost: float = 0.05


@dataclass(frozen=True)
class Scenario:
    """A crowd of which some vanish (they never poll), some hoard (they poll for ever and never enter) and some leave.

    `within` is the time in which they join, in s; `vanish`, `hoard` and `leave` are shares, `patience` is the mean of
    the time after which those leave who do, in s.
    """

    name: str
    people: int
    within: float
    rate: float
    burst: float
    vanish: float = 0.0
    hoard: float = 0.0
    leave: float = 0.0
    patience: float = 60.0
    inside: Inside | None = None
    hoarders_in_front: int = 0
    gone_in_front: int = 0
    changes: tuple[Change, ...] = ()
    workers: bool = True


class Promise(NamedTuple):
    """What somebody was told: times in s."""

    when: float
    position: int
    standing: Standing
    wait: float
    reason: str = ""


@dataclass
class Outcome:
    """What became of a crowd; times in s since the first join."""

    promised: dict[int, list[Promise]] = field(default_factory=dict)
    admitted: dict[int, float] = field(default_factory=dict)
    paused: dict[int, float] = field(default_factory=dict)
    """How long they waited before their last poll."""

    def promises(self, since: float, polls: int | None) -> Iterator[tuple[float, float]]:
        """Promised and true waits, of so many polls of each, from a time on."""
        for ticket, promised in self.promised.items():
            for promise in promised[:polls]:
                true = self.admitted.get(ticket, 0) - promise.when
                if promise.when >= since and true >= WORTH:
                    yield promise.wait, true

    def overtaken(self) -> float:
        """The longest wait after somebody behind them came in, beyond the pause before the last poll."""
        longest, first_behind = 0.0, float("inf")
        for ticket in sorted(self.admitted, reverse=True):
            longest = max(longest, self.admitted[ticket] - first_behind - self.paused[ticket])
            first_behind = min(first_behind, self.admitted[ticket])
        return longest


class Crowd:
    """People of one scenario."""

    def __init__(self, scenario: Scenario, url: str, seed: int) -> None:
        self._scenario, self._random = scenario, random.Random(seed)
        self._settings = Settings.model_validate(
            {"redis_url": url, "admit_rate": scenario.rate, "admit_burst": scenario.burst}
        )
        self._now, self.seconds = 1_800_000_000_000_000, 0.0
        self._redis = connect(self._settings, "promises")
        self._line = Line(self._redis, self._settings, lambda: self._now)
        self._answers = Answers(Signer(["promises" * 8]), self._settings)
        self._due: list[tuple[float, int]] = []
        self._pause: dict[int, float] = {}
        self._enters: set[int] = set()
        self._leaving: list[tuple[float, int]] = []
        self._sessions: list[tuple[float, int]] = []
        self._passes: dict[int, tuple[Renewal, float, bool]] = {}
        self._gone: set[int] = set()
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Until everybody is in who wants to be."""
        await self._redis.command("FLUSHALL")
        scenario, joined, ticks = self._scenario, 0, 0
        changes = list(scenario.changes)
        if inside := scenario.inside:
            cap = {"max_active": str(inside.max_active), "session_ttl": str(int(inside.session_ttl * 1000))}
            await self._line.configure(EVENT, cap)
        while joined < scenario.people or len(self.outcome.admitted) < len(self._enters):
            while changes and changes[0].at <= self.seconds:
                await self._line.configure(EVENT, changes.pop(0).settings)
            arrived = min(scenario.people, 1 + int(scenario.people * self.seconds / scenario.within))
            if arrived > joined:
                await self._join(joined, arrived)
                joined = arrived
            await self._leave()
            await self._stay()
            await self._poll()
            if scenario.workers and ticks % 10 == 0:
                await self._line.publish_index(EVENT)
            if scenario.workers and ticks % 50 == 0:
                await self._line.reap(EVENT, interrupted=0, longest_gap=30_000)
            ticks += 1
            self._now += int(STEP * 1_000_000)
            self.seconds = ticks * STEP
            if self.seconds > 7200:
                break
        await self._redis.aclose()
        return self.outcome

    async def _join(self, start: int, end: int) -> None:
        scenario = self._scenario
        for first in range(start, end, BATCH):
            number = min(BATCH, end - first)
            done = await self._line.enqueue(EVENT, [Join(b"", b"")] * number, True)
            await self._line.confirm(EVENT, [one.ticket for one in done.joined], done.standing.now, note_activity=True)
            for place, (_, ticket, position) in enumerate(done.joined, first):
                fate = self._random.random()
                if place < scenario.gone_in_front or fate < scenario.vanish:
                    continue
                if place >= scenario.hoarders_in_front and fate >= scenario.vanish + scenario.hoard:
                    if fate > 1 - scenario.leave:
                        when = self.seconds + self._random.expovariate(1 / scenario.patience)
                        heapq.heappush(self._leaving, (when, ticket))
                    else:
                        self._enters.add(ticket)
                self._comes_back(ticket, position, eta(position, done.standing), done.standing)

    async def _leave(self) -> None:
        leaving = []
        while self._leaving and self._leaving[0][0] <= self.seconds:
            leaving.append(heapq.heappop(self._leaving)[1])
        if leaving:
            await self._line.leave(EVENT, leaving)
            self._gone.update(leaving)

    def _arrive(self, ticket: int, until: int, entered: int) -> None:
        inside = self._scenario.inside
        if inside is None or self._random.random() < inside.lost:
            return
        shape = 1 / inside.spread**2
        ends = self.seconds + self._random.gammavariate(shape, inside.stay / shape)
        self._passes[ticket] = (Renewal(ticket, until, entered), ends, self._random.random() < inside.release)
        heapq.heappush(self._sessions, (self.seconds, ticket))

    async def _stay(self) -> None:
        """Renews the passes of those inside, and releases those who have done what they came for."""
        inside, renewed, released = self._scenario.inside, [], []
        while inside and self._sessions and self._sessions[0][0] <= self.seconds:
            ticket = heapq.heappop(self._sessions)[1]
            one, ends, releases = self._passes[ticket]
            if ends > self.seconds:
                renewed.append(one)
                heapq.heappush(self._sessions, (min(ends, self.seconds + inside.session_ttl / 6), ticket))
            elif releases:
                released.append(ticket)
        for start in range(0, len(renewed), BATCH):
            chunk = renewed[start : start + BATCH]
            for one, until in zip(chunk, (await self._line.renew(EVENT, chunk)).ends, strict=True):
                _, ends, releases = self._passes[one.ticket]
                self._passes[one.ticket] = (one._replace(until=until), ends, releases)
        for start in range(0, len(released), 100):
            await self._line.release(EVENT, released[start : start + 100])

    def _comes_back(self, ticket: int, position: int, seconds: float | None, standing: Standing) -> None:
        self._pause[ticket] = self._answers.poll_after_ms(position, seconds, standing) / 1000
        heapq.heappush(self._due, (self.seconds + self._pause[ticket], ticket))

    async def _poll(self) -> None:
        due = []
        while self._due and self._due[0][0] <= self.seconds:
            ticket = heapq.heappop(self._due)[1]
            if ticket not in self._gone:
                due.append(ticket)
        for start in range(0, len(due), BATCH):
            tickets = due[start : start + BATCH]
            standing, polled = await self._line.poll(EVENT, tickets)
            ready = []
            for ticket, (code, position) in zip(tickets, polled, strict=True):
                if code == PollCode.READY and ticket in self._enters:
                    ready.append(ticket)
                    continue
                if code == PollCode.GONE:
                    continue
                wait = eta(position, standing) if code == PollCode.WAITING else 0.0
                if ticket in self._enters and wait is not None:
                    self.outcome.promised.setdefault(ticket, []).append(Promise(self.seconds, position, standing, wait))
                self._comes_back(ticket, position, wait, standing)
            for first in range(0, len(ready), ENTERS):
                await self._enter(ready[first : first + ENTERS])

    async def _enter(self, tickets: Sequence[int]) -> None:
        standing, entered = await self._line.enter(EVENT, tickets)
        for ticket, one in zip(tickets, entered, strict=True):
            if one.code == EnterCode.GRANTED:
                self.outcome.admitted[ticket] = self.seconds
                self._arrive(ticket, one.until, one.entered)
                self.outcome.paused[ticket] = self._pause[ticket]
            else:
                self._comes_back(ticket, one.position, eta(one.position, standing), standing)


BIG = Scenario("everybody enters", people=6000, within=1, rate=50, burst=200)
AWAY = replace(BIG, people=5000, within=20, burst=500, vanish=0.3, hoard=0.3)
SHORT = Scenario("1,300: 15 % vanish, 10 % hoard", people=1300, within=6, rate=40, burst=60, vanish=0.15, hoard=0.1)
SLOW = replace(SHORT, people=200, rate=2, burst=4)
LONG = replace(BIG, people=20_000, within=60, rate=100, burst=500)
PAUSE = Change(20, {"paused": "1"}), Change(60, {"paused": "0"})
CAPPED = replace(BIG, people=1500, within=20, rate=20, burst=80, inside=Inside(400, 60, 60))
SCENARIOS = (
    BIG,
    replace(BIG, name="3 of 10 hoard", hoard=0.3),
    replace(BIG, name="half hoard", hoard=0.5),
    replace(BIG, name="half hoard, burst 500", hoard=0.5, burst=500),
    replace(BIG, name="half vanish", vanish=0.5),
    replace(BIG, name="7 of 10 hoard", people=9000, hoard=0.7),
    replace(BIG, name="9 of 10 hoard", people=15_000, hoard=0.9),
    replace(BIG, name="500 hoarders in front, burst 500", people=3500, hoarders_in_front=500, burst=500),
    replace(BIG, name="5,000 in front, burst 500", people=8000, hoarders_in_front=5000, burst=500),
    replace(BIG, name="5,000 in front", people=8000, hoarders_in_front=5000),
    replace(AWAY, name="30 % vanish, 30 % hoard"),
    replace(AWAY, name="the same, all at once", within=1),
    replace(AWAY, name="the same, burst 200", burst=200),
    SHORT,
    replace(SHORT, name="the same, without workers", workers=False),
    replace(SHORT, name="1,300 who all enter", vanish=0, hoard=0),
    replace(SHORT, name="the same, without workers", vanish=0, hoard=0, workers=False),
    replace(SLOW, name="200 at 2 a second, 15 % and 10 %"),
    replace(SLOW, name="the same, all enter", vanish=0, hoard=0),
    replace(LONG, name="20,000 who all enter"),
    replace(LONG, name="the same, 15 % and 10 %", vanish=0.15, hoard=0.1),
    replace(BIG, name="rate 5, burst 0", people=600, rate=5, burst=0, hoard=0.2),
    replace(BIG, name="a few, fast", people=300, hoard=0.2, rate=20, burst=100),
    replace(BIG, name="rate halved after 30 s", hoard=0.2, changes=(Change(30, {"rate": "25"}),)),
    replace(BIG, name="rate doubled after 30 s", hoard=0.2, changes=(Change(30, {"rate": "100"}),)),
    replace(BIG, name="paused from 20 to 60 s", hoard=0.2, changes=PAUSE),
    replace(
        BIG,
        name="paused for 100 s, 1,000 in front gone",
        people=4000,
        gone_in_front=1000,
        changes=(Change(0, {"paused": "1"}), Change(100, {"paused": "0"})),
    ),
    replace(BIG, name="5 % leave, 5 % vanish, 5 % hoard", leave=0.05, vanish=0.05, hoard=0.05, within=30),
    replace(BIG, name="30 % leave", leave=0.3, patience=100.0, within=30),
    replace(CAPPED, name="cap 400: half released"),
    replace(CAPPED, name="cap 400: 5, 5, 5 %", leave=0.05, vanish=0.05, hoard=0.05),
    replace(CAPPED, name="cap 400: stays of one length", inside=Inside(400, 60, 60, 0.2)),
    replace(CAPPED, name="cap 400: stays differ much", inside=Inside(400, 60, 60, 2.0)),
    replace(CAPPED, name="cap 400: all released", inside=Inside(400, 300, 40, 1.0, 1.0)),
    replace(CAPPED, name="cap 400: nobody released", inside=Inside(400, 60, 60, 1.0, 0.0)),
    replace(CAPPED, name="cap 400: sessions of 5 minutes", people=800, inside=Inside(400, 300, 120)),
    replace(CAPPED, name="cap 2,000", people=6000, rate=50, burst=200, inside=Inside(2000, 60, 60)),
    replace(CAPPED, name="cap 50", people=200, rate=2, burst=8, inside=Inside(50, 30, 30)),
    replace(CAPPED, name="cap 100, nobody leaves for long", people=300, inside=Inside(100, 60, 240, 0.3)),
)


def _row(scenario: Scenario, outcome: Outcome) -> str:
    times = sorted(outcome.admitted.values())
    end, since = times[int(len(times) * 0.9)], max([0.0, *(change.at for change in scenario.changes)])
    settled = sum(SETTLED <= when < end for when in times)
    speed = settled / (end - SETTLED) if end > SETTLED + WORTH else 0.0
    share = f"{speed:6.1f} {speed / scenario.rate:5.0%}" if speed and not scenario.changes else f"{'-':>6} {'-':>5}"
    columns = _errors(list(outcome.promises(since, 1))), _errors(list(outcome.promises(since, None)))
    return f"{scenario.name:38} {share}  {columns[0]}  {columns[1]}  {outcome.overtaken():5.1f}"


def _errors(promises: list[tuple[float, float]]) -> str:
    if len(promises) < 2:
        return f"{len(promises):6} {'-':>5} {'-':>5} {'-':>5}"
    off = sorted(abs(promised - true) / true for promised, true in promises)
    ratio = statistics.median(promised / true for promised, true in promises)
    return f"{len(off):6} {off[len(off) // 2]:5.0%} {off[int(len(off) * 0.9)]:5.0%} {ratio:5.2f}"


async def main(only: str, seed: int) -> None:
    """Prints the table."""
    print(f"{'':38} {'in/s':>6} {'':5}  {'first':>6} {'off':>5} {'p90':>5} {'ratio':>5}", end="")
    print(f"  {'every':>6} {'off':>5} {'p90':>5} {'ratio':>5}  {'late':>5}")
    with RedisServer() as server:
        for scenario in SCENARIOS:
            if only in scenario.name:
                crowd = Crowd(scenario, server.url, seed)
                print(_row(scenario, await crowd.run()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="the scenarios with this in their name")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(main(options.only, options.seed))
