"""The line in plain Python, as slow and as plain as can be: what DESIGN.md says, to hold the scripts against."""

from dataclasses import dataclass, field
from math import floor

from shared.replies import EnterCode, JoinCode, PollCode, RedeemCode

LIFE, READY, FRESH, DEDUPE, LINE_TTL, GAP = 300_000, 90_000, 6_000, 300_000, 3_600_000, 30_000
AT_ONCE = 64


@dataclass
class Person:
    """Somebody with a place; times in ms. They are in line unless they were called or stepped aside."""

    who: str
    heard: int
    called: int | None = None
    absent: bool = False


@dataclass
class Pass:
    """What somebody who was let in holds."""

    first: int
    issued: int
    redeemed: bool
    who: str


@dataclass
class State:
    """What is lost when the event's state is."""

    last: int | None = None
    tokens: float = 0.0
    refilled: int = 0
    swept: int | None = None
    grace: int = 0
    busy: int = 0
    shut: int | None = None
    rotated: int | None = None


@dataclass
class Model:
    """One event."""

    us: int
    rate: float
    burst: float
    default_pass_ttl: int = 30_000
    config: dict[str, str] = field(default_factory=dict)
    state: State = field(default_factory=State)
    newest: int | None = None
    people: dict[int, Person] = field(default_factory=dict)
    passes: dict[int, Pass] = field(default_factory=dict)
    keys_new: dict[int, tuple[int, str]] = field(default_factory=dict)
    keys_old: dict[int, tuple[int, str]] = field(default_factory=dict)

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
    def line(self) -> list[int]:
        return sorted(t for t, one in self.people.items() if one.called is None and not one.absent)

    @property
    def fresh(self) -> int:
        return sum(self._is_fresh(one.called) for one in self.people.values())

    def _is_fresh(self, called: int | None) -> bool:
        return called is not None and self.now - FRESH < called <= self.now

    @property
    def rate_in_force(self) -> float:
        return float(self.config.get("rate", self.rate))

    @property
    def capacity(self) -> float:
        return max(float(self.config.get("burst", self.burst)), 4 * self.rate_in_force)

    def tokens(self) -> float:
        """Refills the bucket; what is in it."""
        state = self.state
        if state.last is None:
            if self.newest is None:
                return self.capacity
            state.last, state.tokens, state.refilled = self.newest, 0.0, self.now
        state.refilled = min(state.refilled, self.now)
        return min(self.capacity, state.tokens + self.rate_in_force * (self.now - state.refilled) / 1000)

    def _keep(self, tokens: float) -> None:
        self.state.tokens, self.state.refilled = tokens, self.now

    def position(self, ticket: int) -> int:
        one = self.people[ticket]
        if one.called is None:
            return self.fresh + self.line.index(ticket) + 1
        if not self._is_fresh(one.called):
            return 1
        before = [t for t, other in self.people.items() if self._is_fresh(other.called)]
        return sorted((self.people[t].called or 0, t) for t in before).index((one.called, ticket)) + 1

    def _find(self, tickets: list[int]) -> None:
        for ticket in tickets:
            if ticket in self.people:
                self.people[ticket].absent = False
                self.people[ticket].heard = self.now

    def _open_door(self, tokens: float, *, grace: bool = False) -> None:
        if self.paused:
            return
        for ticket in self.line[:AT_ONCE]:
            if self.fresh >= floor(tokens):
                return
            if not grace and self.now - self.people[ticket].heard >= READY:
                self.people[ticket].absent = True
            else:
                self.people[ticket].called = self.now

    # The steps

    def join(self, joins: list[tuple[int | None, str]]) -> list[tuple[int, int, int]]:
        """Key or None, and who; answers code, ticket and position."""
        tokens, state = self.tokens(), self.state
        if state.last is None:
            self._keep(tokens)
            state.swept = self.now
        self._turn_keys_over()
        answers = [self._join(key, who) for key, who in joins]
        for code, ticket, _ in answers:
            if code in {JoinCode.NEW, JoinCode.IN_LINE}:
                self.people[ticket].heard = max(self.people[ticket].heard, self.now)
        return answers

    def _turn_keys_over(self) -> None:
        state = self.state
        if state.rotated is None or self.now < state.rotated:
            state.rotated = self.now
        elif self.now - state.rotated >= 2 * DEDUPE:
            self.keys_old, self.keys_new, state.rotated = {}, {}, self.now
        elif self.now - state.rotated >= DEDUPE:
            self.keys_old, self.keys_new = self.keys_new, {}
            state.rotated += DEDUPE

    def _join(self, key: int | None, who: str) -> tuple[int, int, int]:
        known = self.keys_new.get(key, self.keys_old.get(key)) if key is not None else None
        if known and (known[0] in self.people or known[0] in self.passes):
            ticket, owner = known
            if owner != who:
                return JoinCode.KEY_REUSED, 0, 0
            if ticket in self.passes:
                return JoinCode.ADMITTED, ticket, 0
            self.people[ticket].absent = False
            return JoinCode.IN_LINE, ticket, self.position(ticket)
        place = next((t for t, one in self.people.items() if who[:1] == "v" and one.who == who), None)
        code = JoinCode.NEW if place is None else JoinCode.IN_LINE
        if place is None:
            place = self.state.last = self.newest = max(self.us, (self.state.last or 0) + 1)
            self.people[place] = Person(who, 0)
        self.people[place].absent = False
        if key is not None:
            self.keys_new[key] = (place, who)
        return code, place, self.position(place)

    def poll(self, tickets: list[int], *, grace: bool) -> list[tuple[int, int]]:
        """Code and position."""
        tokens = self.tokens()
        self._find(tickets)
        self._open_door(tokens, grace=grace)
        answers: list[tuple[int, int]] = []
        for ticket in tickets:
            if ticket in self.people:
                ready = self.people[ticket].called is not None and tokens >= 1 and not self.paused
                answers.append((PollCode.READY if ready else PollCode.WAITING, self.position(ticket)))
            else:
                answers.append((PollCode.ADMITTED if ticket in self.passes else PollCode.GONE, 0))
        return answers

    def enter(self, tickets: list[int]) -> list[tuple[int, int, int, int]]:
        """Code, position, time of issue and the rest of its life."""
        tokens = self.tokens()
        self._find(tickets)
        self._open_door(tokens)
        answers: list[tuple[int, int, int, int]] = []
        for ticket in tickets:
            if ticket in self.passes:
                answers.append(self._again(self.passes[ticket]))
            elif ticket not in self.people:
                answers.append((EnterCode.GONE, 0, 0, 0))
            elif self.paused:
                answers.append((EnterCode.PAUSED, self.position(ticket), 0, 0))
            elif tokens < 1 or self.people[ticket].called is None:
                answers.append((EnterCode.NOT_READY, self.position(ticket), 0, 0))
            else:
                who = self.people.pop(ticket).who
                tokens -= 1
                self._keep(tokens)
                self.passes[ticket] = Pass(self.now, self.now, False, who)
                answers.append((EnterCode.GRANTED, 0, self.now, self.pass_ttl))
        return answers

    def _again(self, held: Pass) -> tuple[int, int, int, int]:
        if held.redeemed:
            return EnterCode.ALREADY_REDEEMED, 0, 0, 0
        if max(0, self.now - held.issued) >= self.pass_ttl:
            if self.now - held.first > LIFE:
                return EnterCode.GONE, 0, 0, 0
            held.issued = self.now
        return EnterCode.GRANTED, 0, held.issued, self.pass_ttl - max(0, self.now - held.issued)

    def leave(self, tickets: list[int]) -> int:
        """How many left."""
        self.tokens()
        left = 0
        for ticket in tickets:
            held = self.passes.get(ticket)
            if self.people.pop(ticket, None):
                left += 1
            elif held and not held.redeemed:
                del self.passes[ticket]
                left += 1
        return left

    def redeem(self, ticket: int, issued: int) -> tuple[int, bytes, int]:
        """Code, who, and when they were first let in."""
        held = self.passes.get(ticket)
        if held and held.redeemed:
            return RedeemCode.ALREADY_REDEEMED, b"", 0
        if not held or held.issued != issued or self.now - issued >= self.pass_ttl:
            return RedeemCode.EXPIRED, b"", 0
        held.redeemed = True
        return RedeemCode.REDEEMED, held.who.encode(), held.first

    def configure(self, changes: dict[str, str]) -> None:
        """What the bucket gathered until now, it gathered under the old settings."""
        tokens = self.tokens()
        if self.state.last is not None:
            self._keep(tokens)
        self.config |= changes

    def reap(self, interrupted: int) -> tuple[int, bool]:
        """How many were expired, and whether the event was unlinked."""
        tokens, state, now = self.tokens(), self.state, self.now
        state.shut = now if self.paused or self.rate_in_force == 0 else state.shut
        long_open = state.shut is None or now - state.shut >= READY
        if not self.people and not self.passes:
            quiet = max((state.last or 0) // 1000, state.busy)
            if self.config and quiet == 0:
                state.busy = now
                return 0, False
            if tokens >= self.capacity and now - quiet >= (LINE_TTL if self.config else LIFE):
                self.state, self.newest, self.keys_new, self.keys_old = State(), None, {}, {}
                return 0, True
        else:
            state.busy = now
        grace = min(state.grace, now + LIFE)
        if state.swept is None or now - state.swept > GAP:
            grace = now + LIFE
        state.grace, state.swept = max(grace, min(interrupted, now) + LIFE), now
        for one in self.people.values():
            one.heard = now if one.heard > now + 1000 else one.heard
            one.called = now if one.called is not None and one.called > now + 1000 else one.called
        expired = 0
        if state.grace <= now:
            self._open_door(tokens)
            for ticket, one in list(self.people.items()):
                uncollected = one.called is not None and one.called <= now - LIFE
                if one.heard <= now - LIFE or (uncollected and long_open and tokens >= 1):
                    del self.people[ticket]
                    expired += 1
        self.passes = {t: held for t, held in self.passes.items() if held.first > now - LIFE - self.pass_ttl}
        return expired, False
