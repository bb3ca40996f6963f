"""What workers do: sweeps, repairs that stop half way or die, and everything once more and too late."""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.line.line import Line
from tests.line.model.event import GAP, LIFE, MILESTONES
from tests.line.model.gate import GatedNode, Job
from tests.line.model.machine import EVENT
from tests.line.model.people import People, pauses, picks
from tests.line.model.twin import Twin
from workers.jobs.repair import repair_event

JOBS = 2


def apart(people: int) -> int:
    """Places between milestones in a line of so many."""
    return max(1, -(-(people - 1) // (MILESTONES - 1)))


class Work(People):
    """Theirs, among what people do."""

    @rule(pause=pauses, interrupted=st.sampled_from([None, None, 0, 100_000, -3000]), limit=st.sampled_from([3, 256]))
    def a_sweep_comes_by(self, pause: int, interrupted: int | None, limit: int) -> None:
        self.move(pause)
        self.sweep(0 if interrupted is None else self.model.now - interrupted, limit)

    def sweep(self, interrupted: int = 0, limit: int = 256) -> bool:
        """Whether the event was unlinked."""
        active = self.model.active
        options: dict[str, Any] = {"interrupted": interrupted, "longest_gap": GAP, "limit": limit}
        _, _, unlinked = self.step("reap", **options)
        self.later("reap", **options)
        if active is not None:
            self.later("forget", active)
            if unlinked:
                self.step("forget", active)
        return bool(unlinked)

    @rule()
    def the_index_is_published(self) -> None:
        if self.step("publish_index"):
            places = {ticket: self.model.position(ticket) for ticket in sorted(self.model.line)}
            self.published.setdefault(self.model.now, []).append(places)
            index = self.run(self.lines[0].index(EVENT))
            marks = dict(zip(index.tickets, index.positions, strict=True))
            assert marks == {ticket: places[ticket] for ticket in index.tickets}
            # First and last, and no two further apart than so few of them have to be.
            assert list(marks)[:: len(marks) - 1 or 1] == list(places)[:: len(places) - 1 or 1]
            far = max((after - before for before, after in pairwise(marks.values())), default=0)
            assert len(marks) <= MILESTONES
            assert far <= apart(len(places))

    @rule(times=st.integers(1, 22), pause=st.sampled_from([5000, GAP - 5000, GAP, GAP, GAP + 1]), numbers=picks)
    def sweeps_go_on(self, times: int, pause: int, numbers: list[int]) -> None:
        self.sweeps(times, pause, self.pick(numbers))

    def sweeps(self, times: int, pause: int, tickets: list[int]) -> None:
        """After so long a pause each, while these people poll."""
        for _ in range(times):
            self.move(pause)
            if tickets:
                self.step("poll", tickets)
            self.sweep()

    @rule(
        times=st.integers(LIFE // GAP, LIFE // GAP + 6),
        shut=st.integers(0, 20),
        how=st.sampled_from([{"paused": "1"}, {"rate": "0"}, {}]),
    )
    def called_people_poll_and_do_not_enter(self, times: int, shut: int, how: dict[str, str]) -> None:
        self.somebody()
        for sweep in range(times):
            if sweep == shut:
                self.configure(how)
            if sweep == shut + 2:
                self.configure({"paused": "0", "rate": "2"})
            self.move(GAP)
            self.step("poll", list(self.model.called))
            self.sweep()

    @rule(pick=st.integers(0, 7), again=st.booleans())
    def something_arrives_late(self, pick: int, again: bool) -> None:
        if again:
            self.late *= 2
        self.something_arrives(pick)

    @rule(times=st.integers(1, 2))
    def somebody_repairs(self, times: int) -> None:
        for _ in range(times):
            self.repair()

    def repair(self) -> None:
        """As a worker does it when nothing comes in between."""
        self.run(repair_event(self.twin, EVENT))  # type: ignore[arg-type] # it is a line in all that matters
        self.run(self.check())

    @rule(pick=st.integers(0, 2), commands=st.integers(0, 12))
    def a_worker_repairs(self, pick: int, commands: int) -> None:
        if pick >= len(self.jobs) and len(self.jobs) < JOBS:
            self.run(self._begin_repair())
            pick = -1
        job = self.jobs[pick % len(self.jobs)]
        if self.run(job.go_on(commands)):
            self.jobs.remove(job)

    def half_a_repair(self) -> None:
        """Until something is written of a lost log, or until there is nothing to do."""
        self.a_worker_repairs(JOBS, 1)
        while self.jobs and not self.model.rebuild:
            self.a_worker_repairs(-1, 1)

    async def _begin_repair(self) -> None:
        job = Job()
        line = Line(GatedNode(self.redis, job), self.settings, self.clock)
        twin = Twin(line, self.model, EVENT, self.deeds, job.wait_for_turn)
        await job.start(repair_event(twin, EVENT))  # type: ignore[arg-type] # as above
        self.jobs.append(job)

    @rule()
    def a_worker_dies(self) -> None:
        if self.jobs:
            self.run(self.jobs.pop().die())
