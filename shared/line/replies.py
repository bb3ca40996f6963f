"""What the steps of the line answer, parsed from what their scripts return."""

from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

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
    """How an event stands: now in ms on Redis's clock, rates in people/s."""

    now: int
    damaged: bool
    paused: bool
    log_lost: bool
    tokens: float
    rate: float
    head_speed: float
    eta_rate: float
    waiting: int

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
    """One enter's answer: when granted, issued and ttl in ms; else the position."""

    code: int
    position: int
    issued: int
    ttl: int


class Redeemed(NamedTuple):
    """A redeem's answer: who ('' unknown, 'u' and a label, 'v' and a verified user), time of the grant in ms."""

    code: int
    who: bytes
    granted: int


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
    """All there is to say about an event; pass_ttl in ms."""

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
