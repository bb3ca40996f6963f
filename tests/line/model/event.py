"""The line in plain Python, as slow and as plain as can be: what shared/line/DESIGN.md
says, to hold the scripts against.

Here: what an event is made of, its bucket, its door, its places, and the one way out. Times in ms.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from math import ceil, floor, sqrt
from typing import NamedTuple

LIFE, READY, FRESH, DEDUPE, LINE_TTL, GAP = 300_000, 90_000, 4_000, 300_000, 3_600_000, 30_000
AT_ONCE = 64
CHUNK, MILESTONES, EXACT_ZONE = 4, 5, 2
"""As small as the machine makes them, so that a few people are many pieces of repair, and far back in line."""
HEAD_WINDOW = 15_000
SESSION_TTL, SLACK, RELEASED, UNKNOWN = 300_000, 2_000, 3_000, -1_000_000_000
TURNS_DECIDED, HESITATION = 2_500, 1_500
SETTLED, MEMORY, FEW = 30_000, 120, 100


@dataclass
class Pass:
    """What somebody who was let in holds; `key` is the Idempotency-Key with which it was redeemed."""

    issued: int
    who: str
    redeemed: bool = False
    key: str = ""
    arrived: bool = False


@dataclass
class State:
    """What is lost when the event's state is."""

    last: int | None = None
    tokens: float = 0.0
    refilled: int = 0
    swept: int = 0
    grace: int = 0
    busy: int = 0
    shut: int = 0
    rotated: int = 0
    relog: bool = False
    indexed: int = 0
    head_at: int = 0
    head_now: int = 0
    head_before: int = 0
    turns_called: float = 0.0
    turns_absent: float = 0.0
    turns_uncounted: float | None = None
    turns_seen: float = 0.0
    turns_at: int | None = None
    turns_settling: float = 0.0
    turns_settled: float = 0.0
    entering: float = 0.0
    absences: float = 0.0
    gave_up: float = 0.0
    gave_up_settled: float = 0.0
    gave_up_time: float = 0.0
    gave_up_at: int | None = None
    gave_up_line: int = 0
    verified: int = 0
    recount: bool = False
    thin: bool = False
    walking: int = 0
    walked: int = 0
    walked_off: int = 0
    active: int | None = None
    present: int = 0
    session_clock: int = 0
    session_latest: int = 0
    session_version: int = 0
    sessions_lost: int = 0
    session_hold: int = 0
    totals: Counter[str] = field(default_factory=Counter)


class Standing(NamedTuple):
    """How an event stands."""

    now: int
    damaged: bool
    paused: bool
    log_lost: bool
    tokens: float
    rate: float
    head_speed: float
    eta_rate: float | None
    """None where it depends on what was measured."""
    waiting: int
    held: bool | None
    capped: bool | None
    seen: int | None
    gap: int | None
    """None as for eta_rate."""
    least_leave: float
    most_leave: float


@dataclass
class Event:
    """One event: what its keys hold, and what every step has in common.

    `newest` is the log's last-generated-id, None without a log. `tokens`, `closed` and `lost`
    (sessions) are what a step finds.
    """

    us: int
    rate: float
    burst: float
    default_pass_ttl: int = 30_000
    config: dict[str, str] = field(default_factory=dict)
    state: State = field(default_factory=State)
    log: dict[int, str] = field(default_factory=dict)
    newest: int | None = None
    rebuild: dict[int, str] = field(default_factory=dict)
    line: set[int] = field(default_factory=set)
    called: dict[int, int] = field(default_factory=dict)
    absent: set[int] = field(default_factory=set)
    heard: dict[int, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    keys_new: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    keys_old: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    admitted: dict[int, int] = field(default_factory=dict)
    passes: dict[int, Pass] = field(default_factory=dict)
    sessions: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    insiders: dict[str, int] = field(default_factory=dict)
    """Verified users, as the log has them, and the tickets under which they are inside."""
    active: int | None = None
    tokens: float = 0.0
    closed: bool = False
    lost: bool = False

    @property
    def now(self) -> int:
        return self.us // 1000

    @property
    def paused(self) -> bool:
        return self.config.get("paused") == "1"

    @property
    def pass_ttl(self) -> int:
        return min(int(self.config.get("pass_ttl", self.default_pass_ttl)), LIFE)

    @property
    def rate_in_force(self) -> float:
        return float(self.config.get("rate", self.rate))

    @property
    def capacity(self) -> float:
        return max(float(self.config.get("burst", self.burst)), 4 * self.rate_in_force)

    @property
    def cap(self) -> int | None:
        given = self.config.get("max_active")
        return int(given) if given else None

    @property
    def session_ttl(self) -> int:
        return int(self.config.get("session_ttl", SESSION_TTL))

    @property
    def session_now(self) -> int:
        return max(self.now, self.state.session_clock)

    @property
    def members(self) -> int:
        return len(self.line) + len(self.called) + len(self.absent)

    @property
    def log_lost(self) -> bool:
        return self.state.relog or (not self.log and self.members > 0)

    @property
    def damaged(self) -> bool:
        return self.log_lost or len(self.log) != self.members

    @property
    def unborn(self) -> bool:
        """Nobody has ever joined, or all of it has been unlinked."""
        return self.state.last is None and self.newest is None and not self.members

    # The bucket

    def begin(self) -> None:
        """What every step does first."""
        state = self.state
        self.closed = self.damaged
        if state.last is None:
            if self.newest is None and not self.members:
                self.tokens = self.capacity
                if self.cap is not None:
                    self.count_sessions()
                return
            state.last, state.tokens, state.refilled, state.recount = self.newest or 0, 0.0, self.now, True
            state.active = UNKNOWN
        state.refilled = min(state.refilled, self.now)
        gathered = self.rate_in_force * (self.now - state.refilled) / 1000
        self.tokens = min(self.capacity, state.tokens + gathered)
        if self.cap is not None:
            self.count_sessions()

    def keep_tokens(self) -> None:
        self.state.tokens, self.state.refilled = self.tokens, self.now

    def standing(self) -> Standing:
        """Changes nothing."""
        state, self.state = self.state, copy.copy(self.state)
        self.begin()
        found = Standing(
            self.now,
            self.closed,
            self.paused,
            self.log_lost,
            self.openings,
            self.rate_in_force,
            max(self.rate_in_force, self._head_speed()),
            self._eta_rate(),
            len(self.line),
            self._held(),
            None if self.cap is not None else False,
            None if self.cap is not None else min(1000, int(self.state.turns_seen)),
            None if self.cap is not None else 0,
            *self._hazards(),
        )
        self.state = state
        return found

    def _head_counts(self) -> tuple[int, int, int]:
        state, window = self.state, floor(self.now / HEAD_WINDOW)
        if state.head_at == window:
            return window, state.head_now, state.head_before
        return window, 0, state.head_now if state.head_at == window - 1 else 0

    def count_head_departures(self, people: int) -> None:
        """So many left the front of the line."""
        if people:
            state = self.state
            state.head_at, state.head_now, state.head_before = self._head_counts()
            state.head_now += people

    def _head_speed(self) -> float:
        _, current, before = self._head_counts()
        return (current + before * (1 - self.now % HEAD_WINDOW / HEAD_WINDOW)) * 1000 / HEAD_WINDOW

    # Sessions

    def count_sessions(self) -> None:
        """Finds out whether some were lost."""
        state, now, inside = self.state, self.session_now, len(self.sessions)
        known = state.active if state.active is not None else UNKNOWN if inside else 0
        change = inside - state.present if state.sessions_lost else 0
        loss = (known != inside and (change > 0 or not state.sessions_lost)) or change < 0
        if loss:
            state.active, state.present = known, inside
            state.sessions_lost = max(state.sessions_lost, self._latest_end)
        if state.sessions_lost and ((known == inside and not loss) or state.sessions_lost <= now):
            state.active, state.sessions_lost, state.session_clock = inside, 0, now
        self.lost = state.sessions_lost > 0

    @property
    def _latest_end(self) -> int:
        return self.state.session_latest or self.session_now + max(self.session_ttl, self.pass_ttl) + SLACK

    @property
    def free(self) -> int:
        assert self.cap is not None
        free = self.cap - len(self.sessions)
        return min(free, 0) if self.lost else free

    @property
    def openings(self) -> float:
        return self.tokens if self.cap is None else min(self.tokens, self.free)

    def are_held(self, *, grace: bool = False) -> bool:
        """Whether no session may be taken away."""
        state, now = self.state, self.session_now
        if grace and state.session_hold < now + READY - 1000:
            state.session_hold, state.session_clock = now + READY, now
        return grace or state.session_hold > now

    def prune_sessions(self, *, held: bool) -> None:
        now = self.session_now
        over = [ticket for ticket, end in self.sessions.items() if end <= now and (not held or ticket in self.ended)]
        for ticket in over:
            del self.sessions[ticket]
        self.insiders = {who: ticket for who, ticket in self.insiders.items() if ticket not in over}
        if over:
            self._count(-len(over), known=False)
            self.state.session_clock = now

    def _count(self, change: int, *, known: bool) -> None:
        if not known:
            self.state.active = (self.state.active or 0) + change
        if self.lost:
            self.state.present += change

    def lengthen(self, ticket: int, until: int, *, known: bool) -> None:
        """Its session; `known`: whether it was counted before."""
        state = self.state
        if ticket not in self.sessions:
            self._count(1, known=known)
        end = until + SLACK
        if ticket not in self.sessions and known and self.lost:
            end = max(end, state.sessions_lost)
        self.sessions[ticket] = max(self.sessions.get(ticket, 0), end)
        state.session_latest, state.session_clock = max(state.session_latest, end), self.session_now

    def keep(self, ticket: int, until: int, *, runs: bool) -> bool:
        """The session of one who was admitted before; whether there is one, or an opening."""
        self.count_sessions()
        if self.sessions.get(ticket, 0) >= until + SLACK:
            return True
        lost = ticket not in self.sessions and runs and self.lost
        if not (ticket in self.sessions or lost or self.cap is None or self.free >= 1):
            return False
        self.lengthen(ticket, until, known=lost)
        return True

    def release(self, ticket: int) -> bool:
        """Whether it was active."""
        self.count_sessions()
        state, now, end = self.state, self.session_now, self.sessions.get(ticket, 0)
        if ticket in self.ended:
            return False
        self.ended[ticket] = max(end or self._latest_end, now + self.session_ttl + SLACK)
        if ticket in self.sessions:
            self.sessions[ticket] = min(end, now + RELEASED)
        state.session_version, state.session_clock = max(state.session_version + 1, now), now
        return end > now

    # How many of those whose turn comes take it up

    def _count_turns(self, called: int, absent: int) -> None:
        state = self.state
        admitted = state.totals["admitted"]
        undecided = sum(self.now - TURNS_DECIDED < when <= self.now for when in self.called.values())
        if state.turns_uncounted is None:
            state.turns_uncounted = admitted
        window = self.now // TURNS_DECIDED
        if state.turns_at != window:
            state.turns_settled = state.turns_settling if state.turns_at == window - 1 else state.turns_called
            state.turns_settling, state.turns_at = state.turns_called, window
        state.turns_called += called
        state.turns_uncounted = max(state.turns_uncounted, admitted - state.turns_called)
        state.turns_absent = min(state.turns_absent + absent, state.turns_called)
        if state.turns_called + state.turns_absent > max(200, 4 * self.capacity):
            state.turns_called = (state.turns_called + undecided) / 2
            state.turns_absent /= 2
            state.turns_uncounted = (state.turns_uncounted + admitted) / 2
        entered = admitted - state.turns_uncounted
        decided = max(entered, state.turns_called - undecided) + 5
        state.turns_seen = min(state.turns_settled, max(0, state.turns_called - undecided)) + state.turns_absent
        state.entering, state.absences = (entered + 5) / decided, state.turns_absent / (state.turns_called + 5)

    def _eta_rate(self) -> float | None:
        if self.cap is not None:
            return None
        share = self.state.entering or 1.0
        calls = min(self.rate_in_force / share, self.capacity / (share + 3 * (1 - share)))
        return calls * (1 + self.state.absences)

    def _held(self) -> bool | None:
        if self.cap is not None:
            return None
        share = self.state.entering or 1.0
        return self.capacity / (share + FRESH / 1000 * (1 - share)) < self.rate_in_force / share

    # How many of those who wait give up

    def count_abandoned(self, departed: set[int]) -> None:
        """These gave up just now, and are in the line no more."""
        state, line = self.state, len(self.line)
        since, before = (self.now, line) if state.gave_up_at is None else (state.gave_up_at, state.gave_up_line)
        if not departed and state.gave_up_at is not None and 0 <= self.now - since < 1000:
            return
        state.gave_up += len(departed)
        state.gave_up_settled += sum(self.now - ticket / 1000 >= SETTLED for ticket in departed)
        state.gave_up_time += min(line, before) * max(0, self.now - since) / 1000
        if state.gave_up_time > MEMORY * max(FEW, line):
            state.gave_up, state.gave_up_settled, state.gave_up_time = (
                state.gave_up / 2,
                state.gave_up_settled / 2,
                state.gave_up_time / 2,
            )
        state.gave_up_at, state.gave_up_line = self.now, line

    def _hazards(self) -> tuple[float, float]:
        time = max(500, self.state.gave_up_time, len(self.line)) / 100_000
        least = max(0, sqrt(self.state.gave_up_settled) - 0.5) ** 2 / time
        most = (sqrt(self.state.gave_up) + 0.5) ** 2 / time
        return floor(min(least, 16_383)) / 100_000, ceil(min(most, 16_383)) / 100_000

    # Places

    @property
    def fresh(self) -> int:
        return sum(map(self.is_fresh, self.called))

    def is_fresh(self, ticket: int) -> bool:
        return self.now - FRESH < self.called[ticket] <= self.now

    def position(self, ticket: int) -> int:
        if self.closed:
            return 0
        if ticket in self.line:
            return self.fresh + sorted(self.line).index(ticket) + 1
        if ticket not in self.called or not self.is_fresh(ticket):
            return 1
        fresh = sorted((when, t) for t, when in self.called.items() if self.is_fresh(t))
        return fresh.index((self.called[ticket], ticket)) + 1

    # The door

    def restore_absent(self, tickets: list[int]) -> None:
        self.line |= self.absent & set(tickets)
        self.absent -= set(tickets)

    def touch_and_locate(self, tickets: list[int]) -> None:
        """Hears these tickets; one that is in the log and nowhere else is put back into the line."""
        self.restore_absent(tickets)
        for ticket in tickets:
            if ticket in self.log and ticket not in self.called and ticket not in self.admitted:
                self.line.add(ticket)
            if ticket in self.line or ticket in self.called:
                self.heard[ticket] = self.now

    def release_calls(self, tickets: list[int]) -> None:
        """Their calls hold up nobody any more."""
        for ticket in tickets:
            if self.openings >= 1 and self.is_fresh(ticket) and self.called[ticket] <= self.now - HESITATION:
                self.called[ticket] = self.now - FRESH

    def open_door(self, *, grace: bool = False) -> None:
        """Calls people one by one; the silent step aside."""
        if self.closed or self.paused:
            return
        if self.cap is not None:
            self.prune_sessions(held=self.are_held(grace=grace))
            shut = self.state.shut
            if self.state.last is not None and self.free < 1 and not 0 <= self.now - shut < 1000:
                self.state.shut = self.now
        examined = called = 0
        for ticket in sorted(self.line)[:AT_ONCE]:
            if self.fresh >= floor(self.openings):
                break
            examined += 1
            self.line.remove(ticket)
            if not grace and self.now - self.heard.setdefault(ticket, self.now) >= READY:
                self.absent.add(ticket)
                self.state.totals["stepped_aside"] += 1
            else:
                self.heard.setdefault(ticket, self.now)
                self.called[ticket] = self.now
                called += 1
        self.count_head_departures(examined)
        if examined:
            self._count_turns(called, examined - called)
            self.count_abandoned(set())

    def has_place(self, ticket: int) -> bool:
        """Also if the log has lost them."""
        return ticket in self.log or ticket in self.line or ticket in self.called or ticket in self.absent

    def depart(self, ticket: int, *, log_lost: bool) -> bool:
        """Takes all of it away together; whether they had a place."""
        had_place = self.has_place(ticket)
        if log_lost and had_place:
            self.state.last = max(self.state.last or 0, ticket)
        who = self.log.pop(ticket, None)
        if log_lost:
            self.rebuild.pop(ticket, None)
        self.line.discard(ticket)
        self.absent.discard(ticket)
        self.called.pop(ticket, None)
        self.heard.pop(ticket, None)
        if who and who[0] == "v" and self.places.get(who[1:]) == ticket:
            del self.places[who[1:]]
            self.state.verified -= 1
        return had_place
