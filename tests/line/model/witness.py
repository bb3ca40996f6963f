"""Watches what people were told and what Redis holds, knows nothing of how the line works, and sees what it promises.

It holds after every step, whatever the steps were: shared/line/DESIGN.md, "The door" and "Joining".
"""

from collections.abc import Iterable, Sequence
from typing import Any

from shared.line.line import Join
from shared.line.replies import EnterCode, JoinCode, PollCode, RedeemCode
from tests.line.model.event import FRESH, GAP, LIFE
from tests.line.model.seen import NOBODY, Seen
from tests.line.model.twin import Deed

WHOLE_AGAIN = 2
"""What relog answers when it has finished."""


class Witness:
    """Of one event."""

    def __init__(self, rate: float, burst: float) -> None:
        self.seen = NOBODY
        self.promised: set[int] = set()
        """Tickets that people have been given, until they depart."""
        self.hurt = self.log_hurt = self.rebuild_requested = self._log_was_lost = False
        self._newest = 0
        self._gone: set[int] = set()
        self._issued: dict[int, int] = {}
        self._redeemed: dict[int, str] = {}
        """And the Idempotency-Key with which they were."""
        self._cancelled: set[int] = set()
        self._session_at = 0
        self._let_in: dict[int, int] = {}
        """When they were, in ms: those who have not redeemed and may ask for their reservation again."""
        self._interruptions = Interruptions()
        self._bucket = Bucket(rate, burst)

    def time_moves(self, milliseconds: int) -> None:
        """Forward."""
        self._bucket.gathered += self._bucket.rate * milliseconds / 1000

    def settings_change(self, rate: float, burst: float) -> None:
        """The bucket's."""
        self._bucket.change(rate, burst)

    def keys_are_lost(self, now: Seen) -> None:
        """Whoever is in none that is left cannot be known any more."""
        self.log_hurt |= now.log.keys() < self.seen.log.keys()
        self._log_was_lost |= self.log_hurt
        self.hurt = True
        self.promised &= self._held(now)
        self._let_in = {t: when for t, when in self._let_in.items() if t in now.passes and t in now.admitted}
        if not now.state["swept"]:
            self._interruptions = Interruptions()
        self.seen = now

    def all_numbers_are_lost(self) -> None:
        """Together with the bucket: whoever comes next makes a new event of it."""
        self._newest = 0
        self._gone.clear()
        self._bucket.lost = True

    def log_is_written_anew(self) -> None:
        """Of the members, as an operator asked for; until then the line is closed."""
        self.hurt = self.log_hurt = self.rebuild_requested = True

    def _held(self, now: Seen) -> set[int]:
        """Who still has a place."""
        return {*now.log, *now.members} if self.log_hurt else set(now.log)

    def judge(self, now: Seen, deeds: Sequence[Deed], at: int, pass_ttl: int) -> None:
        """After a step, or several at once in the order in which they took effect, at a time in ms."""
        before, self.seen = self.seen, now
        issued = set(self._issued)
        self._session_at = max(at, int(now.state["session_clock"]))
        for deed in deeds:
            told = getattr(self, f"_{deed.call.name}", _nothing)
            told(deed.told, *deed.call.args, at=at, pass_ttl=pass_ttl, **deed.call.options)
        self._nobody_vanishes(before, now, deeds, at)
        self._newer_sessions_end_older(before, now)
        self._reservations_last(now, at, pass_ttl)
        self._verified_users_have_one_place(before, now, deeds)
        self._nobody_comes_back(now)
        if len(deeds) == 1:
            self._calls_go_in_order(before, now, deeds[0])
            if before.damaged:
                self._damaged_is_closed(before, now, deeds[0], issued)
            elif deeds[0].call.name == "poll" and now.whole and not self.rebuild_requested:
                self._positions_have_no_gaps(now, dict(zip(deeds[0].call.args[0], deeds[0].told, strict=True)), at)
        if now.whole and (now.log or not self.promised):
            self.hurt = self.log_hurt = False
        assert self.hurt or now.whole, "log = line + called + absent"

    def places_agree(self) -> None:
        """With the log, once all is repaired."""
        log, places = self.seen.log, self.seen.places
        users = {who[1:] for who in log.values() if who[:1] == "v"}
        assert {user for user, ticket in places.items() if log.get(ticket) == f"v{user}"} == users
        # Nobody knows who leaves while the log is lost; they may join again all the same.
        assert users == places.keys() or self._log_was_lost

    # What people were told

    def _enqueue(self, told: Any, _: Any, *, at: int, **__: Any) -> None:
        for code, ticket, _position in told if isinstance(told, list) else []:
            if code == JoinCode.NEW:
                if not self._newest:
                    self._interruptions = Interruptions(at)
                assert ticket not in self._gone | self.promised
                assert ticket > self._newest, "tickets rise"
                self._newest = ticket
            if code in {JoinCode.NEW, JoinCode.IN_LINE}:
                self.promised.add(ticket)

    def _enter(self, told: Any, tickets: list[int], *, at: int, pass_ttl: int, grace: bool = False) -> None:
        now = self._session_at
        for ticket, (code, _, issued, ttl, entered, until) in zip(tickets, told, strict=True):
            if code != EnterCode.GRANTED:
                assert ticket not in self._let_in or (self._has_ended(ticket, at) and not grace)
                continue
            assert ticket not in self._redeemed.keys() | self._cancelled
            assert 0 < ttl <= pass_ttl
            known = self._issued.get(ticket)
            if known is None:
                self._bucket.admit()
                self._let_in[ticket] = at
            else:
                assert issued == known or (issued == now and now - known >= pass_ttl), "one reservation a ticket"
            # Given again it may be of a time that is yet to come: the clock jumped back, and the state was lost.
            assert entered <= issued <= max(now, known or 0)
            assert now < until == now + ttl
            self._issued[ticket] = issued
            self._departs(ticket)

    def _redeem(self, told: Any, ticket: int, issued: int, key: str = "", *, at: int, pass_ttl: int) -> None:
        code, *_ = told
        if code == RedeemCode.REDEEMED and ticket in self._redeemed:
            assert key == self._redeemed[ticket] != "", "one redeem a ticket"
        elif code == RedeemCode.REDEEMED:
            assert ticket not in self._cancelled
            assert self._issued[ticket] == issued > self._session_at - pass_ttl
            self._redeemed[ticket] = key
            self._let_in.pop(ticket, None)
        assert (code == RedeemCode.ALREADY_REDEEMED) <= (ticket in self._redeemed)

    def _leave(self, told: int, tickets: list[int], **_: Any) -> None:
        left = set(tickets) & (self.promised | (self._issued.keys() - self._redeemed.keys() - self._cancelled))
        assert told <= len(set(tickets))
        self._cancelled |= left & self._issued.keys()
        for ticket in set(tickets):
            self._let_in.pop(ticket, None)
            self._departs(ticket)

    def _reap(self, told: tuple[bool, int, bool], *, at: int, interrupted: int, **_: Any) -> None:
        self._interruptions.sweep(at, interrupted)
        if told[2]:
            # Its next life has tickets of its own.
            assert not self.promised
            self._newest = 0
            self._gone.clear()

    def _departs(self, ticket: int) -> None:
        self.promised.discard(ticket)
        # Not one of before all numbers were lost: it may be given again.
        if ticket <= self._newest:
            self._gone.add(ticket)

    def _has_ended(self, ticket: int, at: int) -> bool:
        """The right to ask for a reservation again."""
        return at - self._let_in[ticket] > LIFE and not self._interruptions.are_felt(at)

    # What Redis holds

    def _newer_sessions_end_older(self, before: Seen, now: Seen) -> None:
        for ticket in list(self._let_in):
            who = before.insiders.get(str(ticket)) or before.log.get(ticket, "")
            newest = now.insiders.get(who) if who[:1] == "v" else None
            if newest not in {None, str(ticket)} and ticket not in now.passes:
                assert ticket in now.ended
                self._cancelled.add(ticket)
                del self._let_in[ticket]

    def _reservations_last(self, now: Seen, at: int, pass_ttl: int) -> None:
        for ticket in self._let_in.keys() - (now.passes.keys() & now.admitted.keys()):
            assert self._has_ended(ticket, at), f"{ticket} could not come in again"
            assert at - self._issued[ticket] >= pass_ttl, f"{ticket} held a reservation"
            del self._let_in[ticket]

    def _nobody_vanishes(self, before: Seen, now: Seen, deeds: Sequence[Deed], at: int) -> None:
        if any(deed.call.name == "relog" and deed.told == WHOLE_AGAIN for deed in deeds):
            # Who was only in a log that an operator had written anew is lost with it: repair puts them in line first.
            self.promised &= set(before.members)
            self.rebuild_requested = False
        missing = self.promised - self._held(now)
        expired = sum(deed.told[1] for deed in deeds if deed.call.name == "reap")
        assert len(missing) <= expired, f"{missing} have lost their place"
        for ticket in missing:
            quiet = before.heard.get(ticket, at) <= at - LIFE
            assert quiet or before.called.get(ticket, at) <= at - LIFE, f"{ticket} was expired too early"
            self._departs(ticket)

    def _nobody_comes_back(self, now: Seen) -> None:
        assert not self._gone & {*now.log, *now.members}

    def _verified_users_have_one_place(self, before: Seen, now: Seen, deeds: Sequence[Deed]) -> None:
        users = [who for who in now.log.values() if who[:1] == "v"]
        assert len(users) == len(set(users))
        for deed in deeds:
            for join, (code, ticket, _) in _answers_to_joins(deed):
                place = before.places.get(join.who[1:].decode(), 0) if join.who[:1] == b"v" else 0
                # After the loss of all numbers it may be the same one, or somebody else's of just now.
                held = {*before.log, *before.members} & set(now.members)
                has_place = place != ticket and place in self.promised & held
                assert code != JoinCode.NEW or not has_place, f"{place} and {ticket}"

    def _damaged_is_closed(self, before: Seen, now: Seen, deed: Deed, issued: set[int]) -> None:
        assert now.called.keys() <= before.called.keys()
        assert _granted(deed) <= issued
        assert deed.call.name in {"leave", "relog"} or before.log.keys() <= now.log.keys()

    def _calls_go_in_order(self, before: Seen, now: Seen, deed: Deed) -> None:
        stepped_up = {*now.called, *now.absent} - {*before.called, *before.absent}
        stepped_up |= _granted(deed) & set(before.line)
        assert not stepped_up or not now.line or max(stepped_up) < now.line[0]

    def _positions_have_no_gaps(self, now: Seen, told: dict[int, tuple[int, int]], at: int) -> None:
        fresh = now.fresh(at)
        for place, ticket in enumerate(now.line, fresh + 1):
            assert told.get(ticket, (PollCode.WAITING, place)) == (PollCode.WAITING, place)
        called = [told[t][1] for t, when in sorted(now.called.items(), key=_when) if _is_fresh(when, at) and t in told]
        assert called == sorted(set(called))
        assert all(1 <= place <= fresh for place in called)


class Interruptions:
    """Of the sweeps, and those that sweeps are told of: for a life after one, silence costs nobody anything."""

    def __init__(self, swept: int | None = None) -> None:
        self._swept = swept
        self._until = 0

    def sweep(self, at: int, interrupted: int) -> None:
        """One at a time in ms, that was told of an interruption."""
        gap = self._swept is None or at - self._swept > GAP
        self._until = at + LIFE if gap else max(min(self._until, at + LIFE), min(interrupted, at) + LIFE)
        self._swept = at

    def are_felt(self, at: int) -> bool:
        """Still, or as the next sweep will find, however seldom sweeps are."""
        return self._swept is None or at < self._until or at - self._swept > LIFE / 3


class Bucket:
    """Admissions never exceed effective burst + rate x time, over any stretch of time."""

    def __init__(self, rate: float, burst: float) -> None:
        self.gathered = 0.0
        self.lost = False
        self.rate = rate
        self._capacity = 0.0
        # Who was let in, or 0 for a change of settings; what was gathered until then; the burst in force.
        self._history: list[tuple[int, float, float]] = []
        self.change(rate, burst)

    def change(self, rate: float, burst: float) -> None:
        """Of settings."""
        self.rate, self._capacity = rate, max(burst, 4 * rate)
        self._history.append((0, self.gathered, self._capacity))

    def admit(self) -> None:
        """One more."""
        self._history.append((1, self.gathered, self._capacity))
        admitted, burst = 0, 0.0
        for count, gathered, capacity in reversed(self._history):
            admitted, burst = admitted + count, max(burst, capacity)
            assert not count or self.lost or admitted <= burst + self.gathered - gathered + 1e-6


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _answers_to_joins(deed: Deed) -> Iterable[tuple[Join, tuple[int, int, int]]]:
    answered = deed.call.name == "enqueue" and isinstance(deed.told, list)
    return zip(deed.call.args[0], deed.told, strict=True) if answered else ()


def _granted(deed: Deed) -> set[int]:
    if deed.call.name != "enter":
        return set()
    return {t for t, told in zip(deed.call.args[0], deed.told, strict=True) if told[0] == EnterCode.GRANTED}


def _when(called: tuple[int, int]) -> tuple[int, int]:
    return called[1], called[0]


def _is_fresh(when: int, at: int) -> bool:
    return at - FRESH < when <= at
