"""Requests and answers as structs, from which they are decoded, encoded and described."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.contract.errors import MEANINGS
from shared.event_id import EVENT_ID
from shared.tokens.jwt import PublicKey

MAX_USER_ID = 128
"""Characters of a user id."""

MIN_KEY, MAX_KEY = 16, 128
"""Characters of an Idempotency-Key: a guessable one would hand out somebody's token."""

MAX_ETA = 31_536_000
"""Seconds: a year. Longer waits are cut to this, because a rate may be arbitrarily small."""

ErrorCode = Annotated[str, Meta(extra_json_schema={"enum": sorted(MEANINGS)})]
EventId = Annotated[str, Meta(examples=["concert"], extra_json_schema={"pattern": f"^{EVENT_ID.pattern}$"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
People = Annotated[int, Meta(ge=0)]
Seconds = Annotated[int, Meta(ge=0, le=MAX_ETA)]
# Only described, not enforced: a missing token has an error code of its own.
_NOT_EMPTY = {"minLength": 1}
WaitingToken = Annotated[
    str, Meta(description="Of status, enter and leave: who this is. Opaque", extra_json_schema=_NOT_EMPTY)
]
ReservationToken = Annotated[
    str, Meta(description="Lets them in, once: the backend redeems it. Opaque", extra_json_schema=_NOT_EMPTY)
]
PollAfter = Annotated[int, Meta(ge=1, description="When to come back, in ms")]


_KEY = "Made of random characters, and the same when the request is repeated: so is the answer then"


class JoinRequest(msgspec.Struct):
    """Who wants to join which event."""

    event_id: EventId | None = None
    user_id: Annotated[str, Meta(max_length=MAX_USER_ID, description="A label, which anyone can type")] | None = None


class EnterRequest(msgspec.Struct):
    """Whose turn it is."""

    waiting_token: WaitingToken | None = None


class RedeemRequest(msgspec.Struct):
    """Who has come to the protected backend."""

    reservation_token: ReservationToken | None = None


class ReleaseRequest(msgspec.Struct):
    """Whose session ends."""

    reservation_token: ReservationToken | None = None


class ReleaseResponse(msgspec.Struct):
    """Their session has ended; the next one may come in a few seconds later."""

    status: Literal["released"]


class JoinResponse(msgspec.Struct):
    """A place in line."""

    waiting_token: WaitingToken
    position_hint: Annotated[People, Meta(description="The exact place at that instant, 0 in a damaged line")]
    status: Literal["waiting", "admitted"]
    poll_after_ms: PollAfter


class StatusResponse(msgspec.Struct):
    """Where somebody stands."""

    status: Annotated[
        Literal["waiting", "ready", "admitted"], Meta(description="ready: called, and may enter; admitted: has entered")
    ]
    waiting_token: Annotated[WaitingToken, Meta(description="The newest, to be used from now on. Opaque")]
    position: People
    eta_sec: Annotated[
        Seconds | None,
        Meta(description="Seconds until their turn, null while nobody is let in"),
    ]
    eta_range_sec: Annotated[
        tuple[Seconds, Seconds] | None,
        Meta(description="From how many to how many: true for nine of ten who wait for more than 30 s"),
    ]
    waiting_time: Annotated[People, Meta(description="Seconds since they joined")]
    ready_for_entry: bool
    poll_after_ms: PollAfter
    approximate: Annotated[bool, Meta(description="The position is from the last position index")]


class EnterResponse(msgspec.Struct):
    """A reservation."""

    admission: Literal["granted"]
    reservation_token: ReservationToken
    ttl_sec: Annotated[int, Meta(ge=0, description="Seconds within which it is to be redeemed")]


class LeaveResponse(msgspec.Struct):
    """They are no longer in line."""

    status: Literal["left"]


class RedeemResponse(msgspec.Struct):
    """Who was let in."""

    event_id: EventId
    user_id: Annotated[str | None, Meta(description="The verified user if there was one, else the label of the join")]
    joined_at: Time
    granted_at: Time
    pass_jwt: (
        Annotated[str, Meta(description="A JWT (ES256) that other sites verify by /.well-known/jwks.json")] | UnsetType
    ) = UNSET


class ErrorDetail(msgspec.Struct, omit_defaults=True):
    """What went wrong."""

    code: ErrorCode
    message: Annotated[str, Meta(description="For people; it may change")]
    trace_id: Annotated[str, Meta(description="The X-Request-ID, or one of ours: it is in the log")]
    position: People | UnsetType = UNSET
    poll_after_ms: PollAfter | UnsetType = UNSET
    room: Annotated[str, Meta(description="Where to wait")] | UnsetType = UNSET


class ErrorResponse(msgspec.Struct):
    """The envelope of every error."""

    error: ErrorDetail


class RequestHeaders(msgspec.Struct, rename={"trace_id": "X-Request-ID"}):
    """Headers of any request."""

    trace_id: Annotated[str, Meta(description="1 to 128 visible characters: an error's trace_id")] | UnsetType = UNSET


class KeyedHeaders(RequestHeaders, rename={"trace_id": "X-Request-ID", "key": "Idempotency-Key"}):
    """Headers of a request that may be repeated."""

    key: Annotated[str, Meta(min_length=MIN_KEY, max_length=MAX_KEY, description=_KEY)] | UnsetType = UNSET


class TokenQuery(msgspec.Struct):
    """Who asks."""

    token: (
        Annotated[
            str, Meta(description="The waiting_token, if it is not in Authorization", extra_json_schema=_NOT_EMPTY)
        ]
        | UnsetType
    ) = UNSET


class EventPath(msgspec.Struct):
    """Which event."""

    event_id: EventId


class Page(msgspec.Struct):
    """Which piece of the list."""

    offset: Annotated[int, Meta(ge=0, le=999_999_999)] = 0
    limit: Annotated[int, Meta(ge=0, le=999_999_999, description="At most 1,000 are listed")] = 100


OnOutage = Annotated[
    Literal["closed", "open"],
    Meta(description="open: while Redis is away the gate lets everybody through, for a while"),
]
SessionTtl = Annotated[
    float, Meta(ge=1, le=86_400, description="Seconds without a request after which they are outside")
]
MaxActive = Annotated[int, Meta(ge=0, le=100_000_000, description="Sessions at once; null is any number")]
SessionLimit = Annotated[
    float, Meta(ge=1, le=31_536_000, description="Seconds after which a session ends in any case; null never")
]
Home = Annotated[str, Meta(max_length=1024, description="Where people go who asked for nothing else")]
Targets = Annotated[
    list[Annotated[str, Meta(max_length=256)]],
    Meta(max_length=64, description="Origins beside the site's own that people may be sent to"),
]
Title = Annotated[str, Meta(max_length=200, description="Plain text")]
Message = Annotated[str, Meta(max_length=2000, description="Plain text for those who wait; may change meanwhile")]
Logo = Annotated[str, Meta(max_length=1024, description="A path of the site itself, such as /logo.svg")]
Accent = Annotated[str, Meta(pattern="^(#[0-9a-fA-F]{6})?$", description="A colour such as #0a7cff")]


class EventChanges(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An operator's changes to an event. What is left out stays as it is."""

    rate: Annotated[float, Meta(ge=0, le=1_000_000, description="People let in per second")] | UnsetType = UNSET
    burst: Annotated[float, Meta(ge=0, le=10_000_000, description="People let in at once")] | UnsetType = UNSET
    pass_ttl: Annotated[float, Meta(ge=0.001, le=86_400, description="Seconds to redeem in")] | UnsetType = UNSET
    paused: Annotated[bool, Meta(description="Nobody is called or let in")] | UnsetType = UNSET
    max_active: MaxActive | UnsetType | None = UNSET
    session_ttl: SessionTtl | UnsetType = UNSET
    session_limit: SessionLimit | UnsetType | None = UNSET
    home: Home | UnsetType = UNSET
    targets: Targets | UnsetType = UNSET
    on_outage: OnOutage | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    message: Message | UnsetType = UNSET
    logo: Logo | UnsetType = UNSET
    accent: Accent | UnsetType = UNSET


class EventConfig(msgspec.Struct):
    """The settings in force; the burst is at least 4 s of the rate."""

    rate: float
    burst: float
    pass_ttl: float
    paused: bool
    max_active: MaxActive | None
    session_ttl: SessionTtl
    session_limit: SessionLimit | None
    home: Home
    targets: Targets
    on_outage: OnOutage
    title: Title
    message: Message
    logo: Logo
    accent: Accent


class EventIndex(msgspec.Struct):
    """The position index in short."""

    computed_at: Time
    waiting: People
    rates: Annotated[tuple[float, float, float], Meta(description="People let in per second, over 1, 5 and 15 minutes")]


class EventResponse(msgspec.Struct):
    """All there is to say about an event."""

    event_id: EventId
    declared: Annotated[bool, Meta(description="By an operator: it stays when it is empty")]
    config: EventConfig
    totals: Annotated[dict[str, int], Meta(description="What became of people, since the event began")]
    waiting: People
    called: People
    absent: People
    tokens: Annotated[float, Meta(description="People who may come in at once")]
    damaged: Annotated[bool, Meta(description="Log and line differ: nobody is let in until they are repaired")]
    index: EventIndex | None
    active: Annotated[People, Meta(description="Sessions: people inside")]
    openings: Annotated[float, Meta(description="People who may be let in now; below 0 there are too many inside")]


class EventListEntry(msgspec.Struct):
    """One event in the list."""

    event_id: EventId
    last_activity: Time


class EventListResponse(msgspec.Struct):
    """A piece of the list of events, the longest quiet first."""

    events: list[EventListEntry]
    offset: int
    total: People


class RelogResponse(msgspec.Struct):
    """The workers write the log of this event anew."""

    status: Literal["repairing"]


class KeySetResponse(msgspec.Struct):
    """The keys that JWTs of passes are verified with (RFC 7517), none where no keys are set."""

    keys: tuple[PublicKey, ...]


class Health(msgspec.Struct):
    """The process runs."""

    status: Literal["ok"]


class Readiness(msgspec.Struct):
    """Whether this process should be sent requests, and whether Redis answers it."""

    status: Literal["ok", "starting", "draining"]
    redis: Literal["up", "away"]
