"""What people do, in any order and after any pause, also when the clock jumps."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.line.line import Join
from shared.line.replies import JoinCode
from tests.line.model.event import DEDUPE, FRESH, GAP, LIFE, READY
from tests.line.model.machine import Machine

KEY = 16
"""Bytes of a digest."""

SOME, MANY = 7, 40

picks = st.lists(st.integers(0, 1000), max_size=12)
keys = st.none() | st.integers(1, 4)
users = st.sampled_from(["", "ulabel", "vann", "vbob", "vcho", "v대기"])
joins = st.lists(st.tuples(keys, users), min_size=1, max_size=12)
second_trips = st.sampled_from(["done", "done", "late", "lost"])
pauses = st.sampled_from(
    [0, 0, 0, 1, 400, 1000, FRESH - 1, FRESH, 20_000, 30_000, READY - 1, READY, 301_000, -400, -3000]
)
"""In ms, back too; what ends after a time has its last moment among them, and the one after that."""


class People(Machine):
    """Theirs."""

    def somebody(self) -> None:
        """Is there."""
        if not self.model.log:
            self.join([(b"", f"v{number}" if number % 2 else "") for number in range(SOME)])

    def pick(self, numbers: list[int]) -> list[int]:
        """Of every kind that there is."""
        self.somebody()
        model = self.model
        redeemed = [ticket for ticket, held in model.passes.items() if held.redeemed]
        kinds = [list(kind) for kind in (model.log, model.called, model.absent, model.passes, redeemed, self.known)]
        kinds = [kind for kind in kinds if kind]
        picked = [(kinds[number % len(kinds)], number // len(kinds)) for number in numbers]
        return [kind[number % len(kind)] for kind, number in picked]

    def join(self, people: list[tuple[bytes, str]], second_trip: str = "done") -> list[int]:
        """With keys and names; the tickets of those who are in line."""
        made = [Join(key and key + who.encode().rjust(8, b"~")[:8], who.encode()) for key, who in people]
        joined = self.ask("enqueue", made)
        if not isinstance(joined, list):
            return []
        self.know(ticket for _, ticket, _ in joined)
        here = [ticket for code, ticket, _ in joined if code in {JoinCode.NEW, JoinCode.IN_LINE}]
        if second_trip == "done":
            self.ask("confirm", here, self.model.now, note_activity=True)
        if second_trip == "lost":
            self.later("repair", tickets=list(dict.fromkeys(here)))
        else:
            self.later("confirm", here, self.model.now, note_activity=True)
        self.run(self.check())
        return here

    def called(self) -> list[int]:
        """Whoever may enter, and whoever has; if nobody may, those who are there poll first."""
        self.somebody()
        if not self.model.called:
            self.step("poll", list(self.model.log))
        return [*self.model.called, *self.model.passes]

    @rule(milliseconds=st.sampled_from([45_000, 150_000, DEDUPE, LIFE, 3_600_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.move(milliseconds)

    @rule(milliseconds=st.sampled_from([1, 3000, 100_000, 10_000_000]))
    def the_clock_jumps_back(self, milliseconds: int) -> None:
        self.move(-milliseconds)

    @rule(pause=pauses, people=joins, second_trip=second_trips)
    def people_join(self, pause: int, people: list[tuple[int | None, str]], second_trip: str) -> None:
        self.move(pause)
        self.join([(_digest(key), who) for key, who in people], second_trip)

    @rule(people=st.sampled_from([20, 70]))
    def a_crowd_joins(self, people: int) -> None:
        if len(self.model.log) < MANY:
            self.join([(b"", "")] * people)

    @rule(visits=st.lists(st.tuples(st.sampled_from([DEDUPE - 1, DEDUPE, DEDUPE + 1, 2 * DEDUPE]), keys), max_size=4))
    def joins_come_seldom(self, visits: list[tuple[int, int | None]]) -> None:
        for pause, key in visits:
            self.join([(_digest(key), "ulabel")])
            self.move(max(0, self.model.state.rotated + pause - self.model.now))
        self.join([(_digest(key), "ulabel") for key in (1, 2, 3, 4)])

    @rule(key=keys, who=users, second_trip=second_trips, how=st.sampled_from(["leave", "enter", "stay silent"]))
    def somebody_goes_and_comes_again(self, key: int | None, who: str, second_trip: str, how: str) -> None:
        tickets = self.join([(_digest(key), who)], second_trip)
        if how == "stay silent":
            self.move(READY)
            self.step("poll", [])
        else:
            self.step("poll", tickets)
            self.step(how, tickets)
        # The second trip of their join, if it has not come yet.
        self.something_arrives(-1)
        self.join([(_digest(key), who)], second_trip)

    @rule(pause=pauses, numbers=picks, grace=st.booleans())
    def people_poll(self, pause: int, numbers: list[int], grace: bool) -> None:
        self.move(pause)
        tickets = self.pick(numbers)
        self.step("poll", tickets, grace=grace)
        if tickets:
            self.later("refresh", list(dict.fromkeys(tickets)))

    @rule(pause=pauses)
    def everybody_polls(self, pause: int) -> None:
        self.move(pause)
        self.step("poll", list(dict.fromkeys([*self.model.log, *self.known])))

    @rule(pause=pauses, numbers=picks, grace=st.booleans())
    def people_enter(self, pause: int, numbers: list[int], grace: bool) -> None:
        self.move(pause)
        self.step("enter", self.pick(numbers), grace=grace)

    @rule(pause=pauses)
    def whoever_is_called_enters(self, pause: int) -> None:
        self.move(pause)
        self.step("enter", self.called())

    @rule(late=st.integers(0, 1000))
    def more_are_called_than_there_are_tokens_for(self, late: int) -> None:
        called = self.called()
        self.move(FRESH)
        self.step("poll", list(self.model.log))
        # Those who were called at last may be the first to enter.
        self.step("enter", list(self.model.called)[late % len(called or [0]) :])
        self.step("poll", list(self.model.log))
        self.step("enter", list(self.model.log))

    @rule(numbers=picks)
    def people_leave(self, numbers: list[int]) -> None:
        self.step("leave", self.pick(numbers))

    @rule(
        pick=st.integers(0, 1000),
        pause=st.sampled_from([0, 0, -3000, 8999, 9000, 29_999, 30_000, LIFE, LIFE + 1]),
        off=st.sampled_from([0, 0, 0, 1]),
        key=st.sampled_from(["", "a1", "b2"]),
    )
    def somebody_enters_and_a_backend_redeems(self, pick: int, pause: int, off: int, key: str) -> None:
        self.step("enter", self.called())
        if held := sorted(self.model.passes):
            ticket = held[pick % len(held)]
            issued = self.model.passes[ticket].issued
            self.move(pause)
            self.step("redeem", ticket, issued + off, key)
            self.step("enter", [ticket, ticket])
            # It may have been issued anew, or be gone.
            now_held = self.model.passes.get(ticket)
            for again in (key, "c3"):
                self.step("redeem", ticket, now_held.issued if now_held else issued, again)

    @rule(
        shut=st.sampled_from([0, 250_000, LIFE, 3 * LIFE]),
        swept=st.sampled_from([None, "before", "all the while"]),
        again=st.sampled_from([0, 250_000, LIFE - 1, LIFE]),
        grace=st.booleans(),
        redeem=st.booleans(),
    )
    def nobody_can_come_for_a_while(self, shut: int, swept: str | None, again: int, grace: bool, redeem: bool) -> None:
        tickets = self.called()
        self.step("enter", tickets)
        self.move(shut % GAP)
        for _ in range(shut // GAP):
            self.move(GAP)
            if swept == "all the while":
                self.step("reap", interrupted=self.model.now, longest_gap=GAP)
        if swept:
            self.step("reap", interrupted=self.model.now, longest_gap=GAP)
        for _ in range(again // GAP):
            self.move(GAP)
            self.step("reap", interrupted=0, longest_gap=GAP)
        self.move(again % GAP)
        self.step("enter", tickets, grace=grace)
        for ticket, held in sorted(self.model.passes.items()) if redeem else []:
            self.step("redeem", ticket, held.issued)


def _digest(key: int | None) -> bytes:
    return bytes([key] * KEY) if key else b""
