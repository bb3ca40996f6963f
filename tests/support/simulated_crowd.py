"""Crowds of simulated people on the real scripts and a clock that the simulation moves.

They poll when the api would tell them to; a sweep comes every 5 s and an index every second.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from api.queue.answers import Answers
from api.queue.forecast import doubt, eta, eta_range
from api.queue.promises import WORTH_S, Promises
from api.serving.slips import Slips
from shared.line.line import Join, Line, Renewal
from shared.line.replies import EnterCode, PollCode, Standing
from shared.redis.connect import connect
from shared.settings import Settings
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import Signer

EVENT = "promises"
STEP = 0.1
"""Seconds by which the clock is moved."""
BATCH, ENTERS = 256, 100


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
    the time after which those leave who do, in s. `hazard` is the share of all others that gives up in a second.
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
    hazard: float = 0.0
    inside: Inside | None = None
    hoarders_in_front: int = 0
    gone_in_front: int = 0
    changes: tuple[Change, ...] = ()
    workers: bool = True


class Promise(NamedTuple):
    """What somebody was told, and why it may have become longer: times in s."""

    when: float
    wait: float
    low: int
    high: int
    reason: str


class Kept(NamedTuple):
    """A promise of a wait that is worth a promise, and how it went: times in s.

    `rose`: it was followed by one of a later end than its range has, without a reason.
    """

    promise: Promise
    true: float
    rose: bool

    @property
    def kept(self) -> bool:
        """Whether the truth lay in the range."""
        return self.promise.low <= self.true <= self.promise.high


@dataclass
class Outcome:
    """What became of a crowd; times in s since the first join."""

    changed: list[float] = field(default_factory=list)
    """When an operator changed something."""
    promised: dict[int, list[Promise]] = field(default_factory=dict)
    admitted: dict[int, float] = field(default_factory=dict)
    paused: dict[int, float] = field(default_factory=dict)
    """How long they waited before their last poll."""

    def promises(self, since: float, polls: int | None, worth: float) -> Iterator[tuple[float, float]]:
        """Promised and true waits of at least so long, of so many polls of each, from a time on."""
        for ticket, promised in self.promised.items():
            for promise in promised[:polls]:
                true = self.admitted.get(ticket, 0) - promise.when
                if promise.when >= since and true >= worth:
                    yield promise.wait, true

    def ranges(self) -> Iterator[Kept]:
        """Every promise of more than 30 s; those are void in whose time something was changed."""
        for ticket, promised in self.promised.items():
            latest, admitted = 0.0, self.admitted.get(ticket, 0)
            for promise in reversed(promised):
                rose = latest > promise.when + promise.high
                if not promise.reason:
                    latest = max(latest, promise.when + promise.wait)
                void = any(promise.when < when < admitted for when in self.changed)
                if promise.wait > WORTH_S and not void:
                    yield Kept(promise, admitted - promise.when, rose)

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
        self._answers = Answers(Signer(["promises" * 8]), self._settings, Promises(Metrics()))
        self._due: list[tuple[float, int]] = []
        self._pause: dict[int, float] = {}
        self._enters: set[int] = set()
        self._leaving: list[tuple[float, int]] = []
        self._sessions: list[tuple[float, int]] = []
        self._passes: dict[int, tuple[Renewal, float, bool]] = {}
        self._gone: set[int] = set()
        self._slips: Slips | None = None
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
                if self.seconds:
                    self.outcome.changed.append(self.seconds)
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
            self._observe(done.standing)
            await self._line.confirm(EVENT, [one.ticket for one in done.joined], done.standing.now, note_activity=True)
            for place, (_, ticket, position) in enumerate(done.joined, first):
                fate = self._random.random()
                if place < scenario.gone_in_front or fate < scenario.vanish:
                    continue
                if place >= scenario.hoarders_in_front and fate >= scenario.vanish + scenario.hoard:
                    leaves = fate > 1 - scenario.leave
                    if hazard := 1 / scenario.patience if leaves else scenario.hazard:
                        when = self.seconds + self._random.expovariate(hazard)
                        heapq.heappush(self._leaving, (when, ticket))
                    if not leaves:
                        self._enters.add(ticket)
                self._promised(ticket, position, done.standing)

    async def _leave(self) -> None:
        leaving = []
        while self._leaving and self._leaving[0][0] <= self.seconds:
            ticket = heapq.heappop(self._leaving)[1]
            if ticket not in self.outcome.admitted:
                leaving.append(ticket)
                self._enters.discard(ticket)
                self.outcome.promised.pop(ticket, None)
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

    def _observe(self, standing: Standing) -> None:
        if self._slips is None:
            self._slips = Slips(standing, self._settings.heartbeat_ttl / 2)
        self._slips.observe(standing)

    def _promised(self, ticket: int, position: int, standing: Standing) -> None:
        wait = eta(position, standing)
        between = eta_range(wait, doubt(standing))
        if ticket in self._enters and wait is not None and between is not None:
            reason = self._slips.reason(standing.now) if self._slips else ""
            self.outcome.promised.setdefault(ticket, []).append(Promise(self.seconds, wait, *between, reason))
        self._comes_back(ticket, position, wait, standing)

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
            self._observe(standing)
            ready = []
            for ticket, (code, position) in zip(tickets, polled, strict=True):
                if code == PollCode.READY and ticket in self._enters:
                    ready.append(ticket)
                    continue
                if code == PollCode.GONE:
                    continue
                if code == PollCode.WAITING:
                    self._promised(ticket, position, standing)
                else:
                    self._comes_back(ticket, position, 0.0, standing)
            for first in range(0, len(ready), ENTERS):
                await self._enter(ready[first : first + ENTERS])

    async def _enter(self, tickets: Sequence[int]) -> None:
        standing, entered = await self._line.enter(EVENT, tickets)
        self._observe(standing)
        for ticket, one in zip(tickets, entered, strict=True):
            if one.code == EnterCode.GRANTED:
                self.outcome.admitted[ticket] = self.seconds
                self._arrive(ticket, one.until, one.entered)
                self.outcome.paused[ticket] = self._pause[ticket]
            else:
                self._comes_back(ticket, one.position, eta(one.position, standing), standing)
