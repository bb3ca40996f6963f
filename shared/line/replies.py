"""What the steps of the line answer, parsed from what their scripts return."""

from array import array
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

MOST_SEEN = 1000
"""As in lib/speed.lua."""

HAZARD_UNIT = 100_000
"""As in lib/abandonment.lua."""

SESSION_TTL_MS = 300_000
"""Of an event that says nothing else, as in lib/event.lua."""

TupleT = TypeVar("TupleT", bound=tuple[Any, ...])


def tuples(kind: type[TupleT], *columns: Iterable[Any]) -> list[TupleT]:
    """Named tuples out of their columns, made in C: their own constructor takes three times as long."""
    return list(map(partial(tuple.__new__, kind), zip(*columns, strict=True)))


class EnqueueCode(IntEnum):
    """What became of a batch of joins."""

    LOG_LOST = -1
    NO_EVENT = 0
    DONE = 1


class JoinCode(IntEnum):
    """What became of a join; PLACE_UNKNOWN: whether this verified user has a place is known once repair is done."""

    KEY_REUSED = 0
    NEW = 1
    IN_LINE = 2
    ADMITTED = 3
    PLACE_UNKNOWN = 4


class PollCode(IntEnum):
    """Where a ticket is."""

    GONE = 0
    WAITING = 1
    READY = 2
    ADMITTED = 3


class EnterCode(IntEnum):
    """What became of an enter."""

    GONE = 0
    NOT_READY = 1
    GRANTED = 2
    ALREADY_REDEEMED = 3
    PAUSED = 4


class RedeemCode(IntEnum):
    """What became of a redeem."""

    EXPIRED = 0
    REDEEMED = 1
    ALREADY_REDEEMED = 2


class RelogCode(IntEnum):
    """What became of a piece of a lost log that was to be written back; INCOMPLETE: somebody is missing, begin anew."""

    INCOMPLETE = -1
    NOT_LOST = 0
    WRITTEN = 1
    DONE = 2


class Standing(NamedTuple):
    """How an event stands: now in ms on Redis's clock, rates in people/s.

    `tokens` are the openings: tokens of the bucket or free slots, whichever are fewer. `held` and `capped`: what may
    bound `eta_rate` is calls that nobody takes up, or a full cap. `seen`, at most MOST_SEEN: how many turns it rests
    on, or under a cap how many of MOST_SEEN inside were seen to leave. `gap`: for how many s nobody leaves then.
    `least_leave` and `most_leave`: what share of those in line gives up in a second, at least and at most.
    """

    now: int
    damaged: bool
    paused: bool
    log_lost: bool
    tokens: float
    rate: float
    head_speed: float
    eta_rate: float
    waiting: int
    held: bool
    capped: bool
    seen: int
    gap: int
    least_leave: float
    most_leave: float

    @property
    def is_full(self) -> bool:
        """Where there is a cap, whether it lets nobody in now. An empty bucket has a part of a token, if it is ever
        filled.
        """
        return self.tokens <= 0 < self.rate

    @classmethod
    def parse(cls, reply: Sequence[Any]) -> "Standing":
        """From a script's standing()."""
        now, flags, tokens, rate, head_speed, eta_rate, waiting = reply
        return cls(
            int(now),
            bool(flags & 1),
            bool(flags & 2),
            bool(flags & 4),
            float(tokens),
            float(rate),
            float(head_speed),
            float(eta_rate),
            int(waiting),
            bool(flags & 8),
            bool(flags & 16),
            flags >> 5 & 1023,
            flags >> 15 & 1023,
            (flags >> 25 & 16383) / HAZARD_UNIT,
            (flags >> 39) / HAZARD_UNIT,
        )


class Joined(NamedTuple):
    """One join's answer; position is 0 in a damaged line."""

    code: int
    ticket: int
    position: int


class Polled(NamedTuple):
    """One poll's answer; position is 0 in a damaged line, and for those not in line."""

    code: int
    position: int


class Entered(NamedTuple):
    """One enter's answer. When granted, in ms of session time: when issued and the rest of the reservation's TTL, when
    first let in and until when the pass is good; else the position.
    """

    code: int
    position: int
    issued: int
    ttl: int
    entered: int
    until: int


class WalkedIn(NamedTuple):
    """Somebody who was let in without waiting; when, and until when their pass is good, in ms of session time."""

    ticket: int
    entered: int
    until: int


class RoomRecord(NamedTuple):
    """The settings of a declared event that rooms and gates need; times in ms, `room` is JSON."""

    session_ttl: int
    session_limit: int | None
    room: bytes
    max_active: int | None
    paused: bool


class Renewed(NamedTuple):
    """Session time in ms, and until when each pass is good now: 0 if its session is over."""

    now: int
    ends: list[int]


class Ended(NamedTuple):
    """The released tickets as of a version; None if it is the known one. `session_clock`: the latest session time that
    anybody was given, in ms.
    """

    version: int
    tickets: AbstractSet[int] | None
    session_clock: int


class Redeemed(NamedTuple):
    """A redeem's answer: who ('' unknown, 'u' and a label, 'v' and a verified user), time of the grant in ms, from when
    and until when they may stay in ms, which is 0 if their session is over.
    """

    code: int
    who: bytes
    granted: int
    since: int
    until: int


class Reaped(NamedTuple):
    """What a sweep's visit did; in grace nobody is expired."""

    more: bool
    expired: int
    unlinked: bool
    grace: bool
    standing: Standing


class Inspected(NamedTuple):
    """How an event's counts compare; `walked` if a walk of the log is under way or has just changed nothing."""

    places_differ: bool
    heartbeats_missing: bool
    logged: int
    members: int
    standing: Standing
    walked: bool


class Repaired(NamedTuple):
    """A piece of repair: the entry to go on after (b'' at the end) and how much was written back."""

    next_entry: bytes
    written: int
    standing: Standing


class Index(NamedTuple):
    """The position index: rates over 1, 5 and 15 minutes, and milestones in line order."""

    standing: Standing
    averages: tuple[float, float, float]
    tickets: "array[int]"
    positions: "array[int]"

    @classmethod
    def parse(cls, blob: bytes) -> "Index":
        """From what index.lua published."""
        standing, averages, milestones = msgspec.msgpack.decode(blob)
        return cls(Standing.parse(standing), tuple(averages), array("q", milestones[::2]), array("q", milestones[1::2]))


class Described(NamedTuple):
    """All there is to say about an event; times in ms. `active`: how many are inside; no max_active is no cap."""

    declared: bool
    open: bool
    logged: int
    called: int
    absent: int
    recently_admitted: int
    burst: float
    pass_ttl: int
    totals: dict[str, int]
    standing: Standing
    active: int
    max_active: int | None
    session_ttl: int
    session_limit: int | None

    @property
    def openings(self) -> float:
        """How many may be let in now; below 0 under a cap that was lowered."""
        return self.standing.tokens


class Pulse(NamedTuple):
    """A pulse's answer: times in ms, whether any process had a fresh pulse, this process's full name."""

    now: int
    last: int
    accompanied: bool
    process: str


class Fleet(NamedTuple):
    """The ingress as a whole: time of its last interruption in ms (0: none), processes alive."""

    interrupted: int
    alive: int
