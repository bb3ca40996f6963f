"""Any sequence of steps, on a clock that may jump, does on real Redis what the model does, and keeps every promise."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.line import Join, Line
from shared.replies import JoinCode
from tests.line.model.event import GAP
from tests.line.model.gate import GatedNode, Job
from tests.line.model.stage import EVENT, Stage
from tests.line.model.twin import Twin
from workers.repair import repair_event

KEY = 16
"""Bytes of a digest."""

SOME, MANY = 7, 40
JOBS = 2

_picks = st.lists(st.integers(0, 1000), max_size=12)
_users = st.sampled_from(["", "ulabel", "vann", "vbob", "vcho", "v대기"])
_joins = st.lists(st.tuples(st.none() | st.integers(1, 6), _users), min_size=1, max_size=12)
_lost = ["queue", "called", "absent", "heartbeat", "places", "passes", "admitted", "dedupe_new", "dedupe_old"]
_settings = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.sampled_from(["0", "0.5", "2"]),
        "burst": st.sampled_from(["0", "3", "20"]),
        "pass_ttl": st.sampled_from(["9000", "400000"]),
        "paused": st.sampled_from(["0", "0", "1"]),
    },
)


class Machine(Stage):
    """One step at a time."""

    def pick(self, picks: list[int]) -> list[int]:
        """Mostly of those who are there; if nobody is, somebody comes first."""
        if not self.model.log:
            self._join([(b"", f"v{number}" if number % 2 else "") for number in range(SOME)], "done")
        present = list(self.model.log) or self.known
        pools = [present if pick % 4 else self.known for pick in picks]
        return [pool[pick % len(pool)] for pick, pool in zip(picks, pools, strict=True)]

    # Time

    @rule(milliseconds=st.sampled_from([1, 400, 1000, 5999, 6000, 20_000, 45_000, 89_999, 150_000, 301_000, 3_600_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.move(milliseconds / 1000)

    @rule(seconds=st.sampled_from([0.001, 3, 100, 10_000]))
    def the_clock_jumps_back(self, seconds: float) -> None:
        self.move(-seconds)

    # People

    @rule(joins=_joins, second_trip=st.sampled_from(["done", "done", "late", "lost"]))
    def people_join(self, joins: list[tuple[int | None, str]], second_trip: str) -> None:
        self._join([(bytes([key] * KEY) if key else b"", who) for key, who in joins], second_trip)

    @rule(people=st.sampled_from([20, 70]))
    def a_crowd_joins(self, people: int) -> None:
        if len(self.model.log) < MANY:
            self._join([(b"", "")] * people, "done")

    def _join(self, joins: list[tuple[bytes, str]], second_trip: str) -> None:
        made = [Join(key and key + who.encode().rjust(8, b"~")[:8], who.encode()) for key, who in joins]
        joined = self.ask("enqueue", made)
        if not isinstance(joined, list):
            return
        self.known = sorted({*self.known, *(ticket for _, ticket, _ in joined)})[-40:]
        here = [ticket for code, ticket, _ in joined if code in {JoinCode.NEW, JoinCode.IN_LINE}]
        if second_trip == "done":
            self.ask("confirm", here, self.model.now, note_activity=True)
        if second_trip != "lost":
            self.later("confirm", here, self.model.now, note_activity=True)
        else:
            self.later("repair", tickets=list(dict.fromkeys(here)))

    @rule(picks=_picks, grace=st.booleans())
    def people_poll(self, picks: list[int], grace: bool) -> None:
        tickets = self.pick(picks)
        self.ask("poll", tickets, grace=grace)
        if tickets:
            self.later("refresh", list(dict.fromkeys(tickets)))

    @rule()
    def everybody_polls(self) -> None:
        self.ask("poll", list(dict.fromkeys([*self.model.log, *self.known])))

    @rule(picks=_picks, grace=st.booleans())
    def people_enter(self, picks: list[int], grace: bool) -> None:
        self.ask("enter", self.pick(picks), grace=grace)

    @rule()
    def whoever_is_called_enters(self) -> None:
        self.ask("enter", [*self.model.called, *self.model.passes])

    @rule(picks=_picks)
    def people_leave(self, picks: list[int]) -> None:
        self.ask("leave", self.pick(picks))

    @rule(pick=st.integers(0, 1000), off=st.sampled_from([0, 0, 0, 1]), key=st.sampled_from(["", "a1", "b2"]))
    def a_backend_redeems(self, pick: int, off: int, key: str) -> None:
        if held := sorted(self.model.passes):
            ticket = held[pick % len(held)]
            self.ask("redeem", ticket, self.model.passes[ticket].issued + off, key)

    # Workers

    @rule(interrupted=st.sampled_from([None, None, 0, 100_000]), limit=st.sampled_from([3, 256]))
    def a_sweep_comes_by(self, interrupted: int | None, limit: int) -> None:
        self._sweep(0 if interrupted is None else self.model.now - interrupted, limit)

    def _sweep(self, interrupted: int = 0, limit: int = 256) -> bool:
        active = self.model.active
        options = {"interrupted": interrupted, "longest_gap": GAP, "limit": limit}
        _, _, unlinked = self.ask("reap", **options)
        self.later("reap", **options)
        if active is not None:
            self.later("forget", active)
            if unlinked:
                self.ask("forget", active)
        return bool(unlinked)

    @rule(times=st.integers(1, 14), seconds=st.sampled_from([5, 25, 30]), picks=_picks)
    def sweeps_go_on(self, times: int, seconds: int, picks: list[int]) -> None:
        for _ in range(times):
            self.move(seconds)
            self.ask("poll", self.pick(picks))
            self.run(self.check())
            self._sweep()
            self.run(self.check())

    @rule(pick=st.integers(0, 7), again=st.booleans())
    def what_was_sent_earlier_arrives(self, pick: int, again: bool) -> None:
        if not self.late:
            return
        call = self.late[pick % len(self.late)]
        if not again:
            self.late.remove(call)
        self.ask(call.name, *call.args, **call.options)

    @rule()
    def somebody_repairs(self) -> None:
        self.run(repair_event(self.twin, EVENT))  # type: ignore[arg-type] # it is a line in all that matters

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

    # Operators and accidents

    @rule(changes=_settings)
    def an_operator_changes_settings(self, changes: dict[str, str]) -> None:
        self.configure(changes)

    @rule()
    def the_state_is_lost(self) -> None:
        if self.model.newest is None:
            return
        self.run(self.redis.delete(self.keys.state))
        self.model.state = type(self.model.state)()
        # Whoever comes next writes it anew.
        self.ask("leave", [])

    @rule(lost=st.sets(st.sampled_from(_lost), min_size=1, max_size=3))
    def keys_are_lost(self, lost: set[str]) -> None:
        self.lose(lost)

    @rule()
    def the_log_is_lost(self) -> None:
        # Together with the state it would be a new event.
        if self.model.state.last is not None:
            self.lose({"stream"})

    @rule()
    def the_scripts_are_flushed(self) -> None:
        self.run(self.redis.script_flush())
