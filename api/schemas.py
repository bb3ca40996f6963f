"""What requests and answers look like: the one source for decoding, encoding and describing them."""

from typing import Annotated, Literal

import msgspec

MAX_USER_ID = 128
"""Characters of a user id."""


class JoinRequest(msgspec.Struct):
    """The body of a join; the user_id is a label that anyone can type."""

    event_id: str | None = None
    user_id: Annotated[str, msgspec.Meta(max_length=MAX_USER_ID)] | None = None


class EnterRequest(msgspec.Struct):
    """The body of an enter."""

    waiting_token: str | None = None


class RedeemRequest(msgspec.Struct):
    """The body of a redeem."""

    reservation_token: str | None = None


class JoinResponse(msgspec.Struct):
    """A place in line; position_hint is exact at that instant, 0 in a damaged line."""

    waiting_token: str
    position_hint: int
    status: Literal["waiting", "admitted"]
    poll_after_ms: int


class StatusResponse(msgspec.Struct):
    """Where somebody stands; eta_sec is null while nobody is let in."""

    status: Literal["waiting", "ready", "admitted"]
    waiting_token: str
    position: int
    eta_sec: int | None
    waiting_time: int
    ready_for_entry: bool
    poll_after_ms: int
    approximate: bool


class EnterResponse(msgspec.Struct):
    """A reservation, to be redeemed within ttl_sec."""

    admission: Literal["granted"]
    reservation_token: str
    ttl_sec: int


class RedeemResponse(msgspec.Struct):
    """Who was let in; times in RFC 3339, UTC."""

    event_id: str
    user_id: str | None
    joined_at: str
    granted_at: str


class EventChanges(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An operator's changes to an event: rate in people/s, pass_ttl in s. What is left out stays as it is."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] | msgspec.UnsetType = msgspec.UNSET
    burst: Annotated[float, msgspec.Meta(ge=0, le=10_000_000)] | msgspec.UnsetType = msgspec.UNSET
    pass_ttl: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | msgspec.UnsetType = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET


class EventConfig(msgspec.Struct):
    """The settings in force; the burst is at least 4 s of the rate."""

    rate: float
    burst: float
    pass_ttl: float
    paused: bool


class EventIndex(msgspec.Struct):
    """The position index in short: admission rates in people/s over 1, 5 and 15 minutes."""

    computed_at: str
    waiting: int
    rates: tuple[float, float, float]


class EventResponse(msgspec.Struct):
    """All there is to say about an event."""

    event_id: str
    declared: bool
    config: EventConfig
    totals: dict[str, int]
    waiting: int
    called: int
    absent: int
    tokens: float
    damaged: bool
    index: EventIndex | None


class EventListEntry(msgspec.Struct):
    """One event in the list."""

    event_id: str
    last_activity: str


class EventListResponse(msgspec.Struct):
    """A piece of the list of events, the longest quiet first."""

    events: list[EventListEntry]
    offset: int
    total: int
