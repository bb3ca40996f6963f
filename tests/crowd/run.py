"""A run: people come, are watched, and end."""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from tests.crowd.ledger import Ledger, Moment
from tests.crowd.options import Options
from tests.crowd.person import Person
from tests.crowd.stack import Site, Stack, StackError
from tests.crowd.town import Character, Fate, Town
from tests.crowd.view import View
from tests.support.threads import in_thread

LAG_EVERY: Final = 0.05
SETTLES: Final = 1.0
"""Seconds after the last one until the server's totals are read: what was on its way has arrived."""
_LOSES: Final = 0.05
"""The share of people who lose the answer to their join."""
_CLICKS: Final = 0.1
"""The share of people who join twice at once."""
_NEWEST: Final = 1000
"""People among whom the newest promise is looked for."""
_RECENT: Final = 10.0


class Run:
    """One crowd before one site. `over` ends it early."""

    def __init__(
        self,
        options: Options,
        site: Site,
        *,
        stack: Stack | None,
        ledger: Ledger,
        view: View,
        over: asyncio.Event,
    ) -> None:
        self._over = over
        self._options, self._site, self._stack, self._ledger, self._view = options, site, stack, ledger, view
        self._random = random.Random(options.seed)
        self._failures: list[BaseException] = []
        self._people: dict[asyncio.Task[None], Person] = {}
        self._hoping = self._came = 0
        self._before: dict[str, int] = {}

    async def play(self) -> None:
        """Until everybody has ended who does not wait for ever. Raises StackError, or the first failure of ours."""
        town = await self._prepare()
        beside = [asyncio.create_task(work) for work in (self._watch(town), self._measure_lag(), self._open_doors())]
        if self._options.outage:
            beside.append(asyncio.create_task(self._break_redis(town)))
        coming = asyncio.create_task(self._come(town))
        try:
            await self._wait(town, coming, beside)
        finally:
            self._ledger.ended = town.now()
            self._ledger.interrupted = self._over.is_set()
            await _end([coming, *beside, *self._people])
        for task in (coming, *beside):
            if not task.cancelled() and (error := task.exception()):
                raise error
        if self._failures:
            raise self._failures[0]
        await self._read_totals()

    async def _prepare(self) -> Town:
        options, site, ledger = self._options, self._site, self._ledger
        if site.is_ours:
            await site.declare(options)
            # Until every process has read it.
            await asyncio.sleep(1.1)
        if not await site.has_room():
            raise StackError(f"there is no waiting room of {site.event} at {site.host}")
        described = await site.describe()
        if described is None:
            ledger.unchecked.append("who was let in twice without knowing it: the totals need an admin key")
            ledger.unchecked.append("the event's rate and cap, which are as they are: setting them needs an admin key")
        else:
            self._before = described["totals"]
            if options.event and self._before["joined"]:
                ledger.unchecked.append("the totals: others may be in this event's line")
                self._before = {}
        gate = await site.has_gate()
        if not gate:
            ledger.unchecked.append("passes at the gate: it cannot be asked here, so people follow the location")
        began = time.monotonic()
        if self._stack is not None:
            # Redis reads the clock of this machine.
            ledger.hear_clock(time.time(), 0.0, 0.0)
        return Town(
            client=site.client,
            ledger=ledger,
            event=site.event,
            host=site.host,
            scheme=site.scheme,
            gate=gate,
            random=self._random,
            rate=options.rate,
            heartbeat_ttl=options.heartbeat_ttl,
            stay=options.stay,
            began=began,
        )

    # People

    def _characters(self) -> list[Character]:
        options, draw = self._options, self._random
        fates = [Fate.LEAVES, Fate.VANISHES, Fate.NEVER_ENTERS]
        shares = [options.leave, options.vanish, options.never_enter]
        counts = [round(one * options.people) for one in shares]
        drawn = [fate for fate, count in zip(fates, counts, strict=True) for _ in range(count)][: options.people]
        drawn += [Fate.ENTERS] * (options.people - len(drawn))
        draw.shuffle(drawn)
        return [
            Character(
                fate,
                hidden=draw.random() < options.hidden_tabs,
                listens=draw.random() < options.listen,
                loses_join=options.retry and draw.random() < _LOSES,
                clicks_twice=options.double_click and draw.random() < _CLICKS,
            )
            for fate in drawn
        ]

    async def _come(self, town: Town) -> None:
        characters = self._characters()
        times = sorted(self._random.uniform(0, self._options.arrive) for _ in characters)
        for number, (due, character) in enumerate(zip(times, characters, strict=True)):
            if (wait := due - town.now()) > 0:
                await asyncio.sleep(wait)
            person = Person(town, number, character)
            task = asyncio.create_task(person.live())
            self._people[task] = person
            self._hoping += person.hopes
            self._came += 1
            task.add_done_callback(self._ended)
            if not number % 64:
                # A flash must not keep everybody else from being served.
                await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._hoping -= self._people.pop(task).hopes
        if not task.cancelled() and (error := task.exception()):
            self._failures.append(error)

    async def _wait(self, town: Town, coming: asyncio.Task[None], beside: Sequence[asyncio.Task[None]]) -> None:
        options = self._options
        since = max(options.doors, options.arrive)
        while self._hoping or not coming.done():
            broken = self._failures or any(task.done() and task.exception() for task in (coming, *beside))
            if broken or self._over.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 0.2)
            if town.now() - max(since, town.last_admission) > max(options.patience, 10 / options.rate):
                self._ledger.patience_over = True
                return

    # Beside them

    async def _open_doors(self) -> None:
        if self._options.doors and self._site.is_ours:
            await asyncio.sleep(self._options.doors)
            await self._site.open_doors()

    async def _break_redis(self, town: Town) -> None:
        outage, stack = self._options.outage, self._stack
        assert outage is not None
        assert stack is not None
        await asyncio.sleep(outage.at)
        killed = town.now()
        await in_thread(stack.kill_redis)
        await asyncio.sleep(outage.seconds)
        await in_thread(stack.restart_redis)
        self._ledger.shut.append((killed, town.now()))

    async def _measure_lag(self) -> None:
        due = time.monotonic() + LAG_EVERY
        while True:
            await asyncio.sleep(due - time.monotonic())
            now = time.monotonic()
            self._ledger.lag.append(now - due)
            self._ledger.most_queued = max(self._ledger.most_queued, self._site.client.queued)
            due = max(due + LAG_EVERY, now)

    async def _watch(self, town: Town) -> None:
        number = 0
        while True:
            await asyncio.sleep(max(0, number - town.now()))
            described = await self._site.describe()
            moment = self._moment(town, described)
            self._ledger.moments.append(moment)
            if described is not None and self._options.max_active:
                self._ledger.over_cap = max(self._ledger.over_cap, described["active"] - self._options.max_active)
            self._view.show(moment)
            number = max(number + 1, int(town.now()))

    def _moment(self, town: Town, known: Mapping[str, Any] | None) -> Moment:
        ledger, now = self._ledger, town.now()
        # Of those who came last: their wait is the longest.
        told = [story.told[-1] for story in ledger.stories[-_NEWEST:] if story.told and story.told[-1].eta is not None]
        newest = max(told, key=lambda one: one.at, default=None)
        while ledger.served and now - ledger.served[0][0] > _RECENT:
            ledger.served.popleft()
        lag = ledger.lag[-20:]
        return Moment(
            at=now,
            came=self._came,
            joined=ledger.joined,
            admitted=ledger.admitted,
            waiting=len(self._people),
            inside=known["active"] if known else None,
            line=known["waiting"] + known["called"] + known["absent"] if known else None,
            promised=newest.eta if newest else None,
            low=newest.low if newest else None,
            high=newest.high if newest else None,
            served=statistics.median(wait for _, wait in ledger.served) if ledger.served else None,
            errors=ledger.refused.total() + ledger.broken + ledger.unconnected,
            lag=max(lag) if lag else 0.0,
        )

    async def _read_totals(self) -> None:
        if not self._before or self._ledger.interrupted:
            return
        await asyncio.sleep(SETTLES)
        described = await self._site.describe()
        if described is None:
            self._ledger.unchecked.append("the server's totals: they could not be read at the end")
            return
        self._ledger.totals = {name: count - self._before.get(name, 0) for name, count in described["totals"].items()}


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
