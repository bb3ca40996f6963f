"""What operators do, and what happens to a Redis."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.line.model.event import GAP, LIFE
from tests.line.model.people import pauses, picks
from tests.line.model.work import Work

_keys = [
    "queue",
    "called",
    "absent",
    "heartbeat",
    "places",
    "passes",
    "admitted",
    "dedupe_new",
    "dedupe_old",
    "insiders",
]
_settings = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.sampled_from(["0", "0.5", "2"]),
        "burst": st.sampled_from(["0", "3", "20"]),
        "pass_ttl": st.sampled_from(["9000", "400000"]),
    },
)
_steps = ["join", "poll", "enter", "leave", "reap", "sweeps", "index", "repair", "half a repair", "rebuild"]
_next = st.lists(st.sampled_from(_steps), max_size=4)
"""What comes first after an accident."""

_losses = st.sets(st.sampled_from([*_keys, "state", "stream"]), min_size=1, max_size=3) | st.sampled_from(
    ["entries", "members", "entries and members"]
)


class Accidents(Work):
    """Theirs, among what people and workers do."""

    @rule(pause=pauses, changes=_settings)
    def an_operator_changes_settings(self, pause: int, changes: dict[str, str]) -> None:
        self.move(pause)
        self.configure(changes)

    @rule(paused=st.sampled_from(["0", "1", "1"]))
    def an_operator_pauses_or_resumes(self, paused: str) -> None:
        self.configure({"paused": paused})

    @rule()
    def an_operator_has_the_log_written_anew(self) -> None:
        if self.step("request_log_rebuild"):
            self.witness.log_is_written_anew()

    @rule(after=_next, numbers=picks)
    def the_state_is_lost(self, after: list[str], numbers: list[int]) -> None:
        self._lose({"state"}, after, numbers)

    @rule(after=_next, numbers=picks)
    def the_log_is_lost(self, after: list[str], numbers: list[int]) -> None:
        self._lose({"stream"}, after, numbers)

    @rule(lost=st.sets(st.sampled_from(_keys), min_size=1, max_size=3), after=_next, numbers=picks)
    def keys_are_lost(self, lost: set[str], after: list[str], numbers: list[int]) -> None:
        self._lose(lost, after, numbers)

    @rule(after=_next, numbers=picks)
    def some_entries_of_the_log_are_lost(self, after: list[str], numbers: list[int]) -> None:
        self._lose("entries", after, numbers)

    @rule(accidents=st.lists(st.tuples(_losses, _next, picks), min_size=2, max_size=4))
    def accidents_happen_in_a_row(self, accidents: list[tuple[set[str] | str, list[str], list[int]]]) -> None:
        for lost, after, numbers in accidents:
            self._lose(lost, after, numbers)

    @rule(also=st.sets(st.sampled_from(["state", "queue", "heartbeat"]), max_size=1), after=_next)
    def verified_users_rejoin_after_their_places_are_lost(self, also: set[str], after: list[str]) -> None:
        people = [(b"", "vann"), (b"", "vbob")]
        tickets = self.join(people)
        self.lose({"places", *also})
        self.join(people[::2])
        self._goes_on(after, tickets, ["vbob"])

    def _lose(self, lost: set[str] | str, after: list[str], numbers: list[int]) -> None:
        tickets = self.pick(numbers)
        names = [self.model.log.get(ticket, "") for ticket in tickets]
        match lost:
            case "entries":
                self.lose_entries(set(tickets))
            case "members":
                self.lose_members(set(tickets))
            case "entries and members":
                # As many of each: the counts agree, and nobody is lost altogether.
                some, others = tickets[::2], tickets[1::2]
                self.lose_entries(set(some) - set(others))
                self.lose_members(set(others) - set(some))
            case _:
                self.lose(set(lost))
        self._goes_on(after, tickets, names)

    def _goes_on(self, after: list[str], tickets: list[int], names: list[str]) -> None:
        for what in after:
            match what:
                case "join":
                    self.join([(b"", name) for name in [*names, ""]])
                case "reap":
                    self.sweep()
                case "sweeps":
                    self.sweeps(LIFE // GAP + 1, GAP, [])
                case "index":
                    self.the_index_is_published()
                case "repair":
                    self.repair()
                case "half a repair":
                    self.half_a_repair()
                case "rebuild":
                    self.an_operator_has_the_log_written_anew()
                case _:
                    self.step(what, tickets)

    @rule()
    def the_scripts_are_flushed(self) -> None:
        self.run(self.redis.script_flush())
