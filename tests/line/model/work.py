"""What workers do: sweeps, repairs that stop half way or die, and everything once more and too late."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.line import Line
from tests.line.model.event import GAP
from tests.line.model.gate import GatedNode, Job
from tests.line.model.people import People, pauses, picks
from tests.line.model.stage import EVENT
from tests.line.model.twin import Twin
from workers.repair import repair_event

JOBS = 2


class Work(People):
    """Theirs, among what people do."""

    @rule(pause=pauses, interrupted=st.sampled_from([None, None, 0, 100_000]), limit=st.sampled_from([3, 256]))
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
            places = {ticket: self.model.position(ticket) for ticket in self.model.line}
            self.published.setdefault(self.model.now, []).append(places)

    @rule(times=st.integers(1, 14), pause=st.sampled_from([5000, GAP - 5000, GAP, GAP + 1]), numbers=picks)
    def sweeps_go_on(self, times: int, pause: int, numbers: list[int]) -> None:
        for _ in range(times):
            self.move(pause)
            self.step("poll", self.pick(numbers))
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

    async def _begin_repair(self) -> None:
        job = Job()
        line = Line(GatedNode(self.workers, job), self.settings, self.clock)
        twin = Twin(line, self.model, EVENT, self.deeds, job.wait_for_turn)
        await job.start(repair_event(twin, EVENT))  # type: ignore[arg-type] # as above
        self.jobs.append(job)

    @rule()
    def a_worker_dies(self) -> None:
        if self.jobs:
            self.run(self.jobs.pop().die())
