"""Every operation of the api. Routes and the OpenAPI description are both made from this table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from api.contract import schemas
from api.http.router import ANY, Handler, Route

Tag = Literal["queue", "backend", "gate", "admin", "operations"]
Refusals = Mapping[int, tuple[str, ...]]
Described = type[msgspec.Struct]

TAGS: Mapping[Tag, str] = {
    "queue": "What a client does: join, poll when poll_after_ms says so, enter when ready_for_entry is true.",
    "backend": "What the protected backend does.",
    "gate": "What a reverse proxy asks for every request to a protected site. Any method; GET is described.",
    "admin": "What operators do.",
    "operations": "What orchestrators, Prometheus, verifiers, readers ask for. Answered from memory, never by Redis.",
}


class Link(NamedTuple):
    """A field of an answer that another operation takes, in a field of its body or as its token."""

    operation: str
    field: str


class ResponseSpec(NamedTuple):
    """An answer that is not an error: a struct in JSON, a text of this media type, or nothing."""

    status: int
    what: Described | str | None
    links: tuple[Link, ...] = ()
    retry_after: bool = False


class Operation(NamedTuple):
    """A method of a path, with the refusals that its tag does not have anyway."""

    name: str
    method: str
    path: str
    tag: Tag
    summary: str
    answers: tuple[ResponseSpec, ...]
    refusals: Refusals = MappingProxyType({})
    query: Described | None = None
    headers: Described | None = None
    body: Described | None = None
    needed: str = ""
    """A field that the body must have."""
    any_method: bool = False
    """Whether every other method is answered in the same way."""


ALWAYS: Mapping[Tag, Refusals] = {
    "queue": {500: ("INTERNAL_ERROR",), 503: ("OVERLOADED", "UNAVAILABLE")},
    "backend": {500: ("INTERNAL_ERROR",), 503: ("OVERLOADED", "UNAVAILABLE")},
    "gate": {500: ("INTERNAL_ERROR",), 503: ("OVERLOADED", "UNAVAILABLE")},
    "admin": {401: ("UNAUTHORIZED",), 500: ("INTERNAL_ERROR",), 503: ("ADMIN_DISABLED", "UNAVAILABLE")},
    "operations": {500: ("INTERNAL_ERROR",)},
}
"""The refusals that every operation of a tag may answer with."""

NOWHERE: Refusals = {404: ("NOT_FOUND",), 405: ("METHOD_NOT_ALLOWED",)}
"""The answers where there is no operation."""

_WAITING = (Link("status", "waiting_token"), Link("enter", "waiting_token"), Link("leave", "waiting_token"))
_EVENT = "/api/v1/admin/events/{event_id}"


def _leave(name: str, method: str, summary: str) -> Operation:
    return Operation(
        name,
        method,
        "/api/v1/queue/leave",
        "queue",
        summary,
        (ResponseSpec(200, schemas.LeaveResponse),),
        {400: ("MISSING_TOKEN", "INVALID_TOKEN")},
        query=schemas.TokenQuery,
        headers=schemas.RequestHeaders,
    )


def _authorize(dialect: str, answers: tuple[ResponseSpec, ...], refusals: Refusals, rest: str = "") -> Operation:
    return Operation(
        f"authorize{dialect.capitalize()}",
        "GET",
        f"/api/v1/gate/{{event_id}}/{dialect}/authorize{rest}",
        "gate",
        f"Whether a visitor may pass, in the words of the {dialect} dialect",
        (ResponseSpec(200, None), *answers),
        {404: ("EVENT_NOT_FOUND",), **refusals},
        any_method=True,
    )


def _read(path: str, summary: str, answers: Mapping[int, Described | str]) -> tuple[Operation, Operation]:
    """GET and HEAD of something that is answered from memory."""
    name = path.rpartition("/")[2].removesuffix(".json")
    whole = tuple(ResponseSpec(status, what) for status, what in answers.items())
    bare = tuple(ResponseSpec(status, None) for status in answers)
    return (
        Operation(name, "GET", path, "operations", summary, whole),
        Operation(f"{name}Head", "HEAD", path, "operations", summary, bare),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "join",
        "POST",
        "/api/v1/queue/join",
        "queue",
        "Join the line of an event",
        (ResponseSpec(202, schemas.JoinResponse, _WAITING),),
        {
            400: ("MISSING_EVENT_ID", "INVALID_REQUEST"),
            404: ("EVENT_NOT_FOUND",),
            408: ("BODY_TIMEOUT",),
            413: ("PAYLOAD_TOO_LARGE",),
            415: ("UNSUPPORTED_MEDIA_TYPE",),
            422: ("IDEMPOTENCY_KEY_REUSED",),
            429: ("RATE_LIMITED",),
        },
        headers=schemas.KeyedHeaders,
        body=schemas.JoinRequest,
        needed="event_id",
    ),
    Operation(
        "status",
        "GET",
        "/api/v1/queue/status",
        "queue",
        "Ask where one stands",
        (ResponseSpec(200, schemas.StatusResponse, _WAITING, retry_after=True),),
        {400: ("MISSING_TOKEN", "INVALID_TOKEN"), 404: ("TOKEN_EXPIRED",)},
        query=schemas.TokenQuery,
        headers=schemas.RequestHeaders,
    ),
    Operation(
        "stream",
        "GET",
        "/api/v1/queue/stream",
        "queue",
        "Hear where one stands as soon as it changes: Server-Sent Events",
        (ResponseSpec(200, "text/event-stream"),),
        {400: ("MISSING_TOKEN", "INVALID_TOKEN"), 404: ("TOKEN_EXPIRED",)},
        query=schemas.TokenQuery,
        headers=schemas.RequestHeaders,
    ),
    Operation(
        "enter",
        "POST",
        "/api/v1/queue/enter",
        "queue",
        "Enter, when it is one's turn; repeated, it gives the same reservation",
        (ResponseSpec(200, schemas.EnterResponse, (Link("redeem", "reservation_token"),)),),
        {
            400: ("MISSING_TOKEN", "INVALID_TOKEN", "INVALID_REQUEST"),
            403: ("NOT_READY", "EVENT_PAUSED"),
            404: ("TOKEN_EXPIRED",),
            409: ("ALREADY_REDEEMED",),
            408: ("BODY_TIMEOUT",),
            413: ("PAYLOAD_TOO_LARGE",),
            415: ("UNSUPPORTED_MEDIA_TYPE",),
        },
        headers=schemas.RequestHeaders,
        body=schemas.EnterRequest,
        needed="waiting_token",
    ),
    _leave("leave", "DELETE", "Leave the line; may be repeated"),
    _leave("leaveByBeacon", "POST", "The same, for navigator.sendBeacon"),
    Operation(
        "redeem",
        "POST",
        "/api/v1/queue/redeem",
        "backend",
        "Take a reservation, once; with an Idempotency-Key the answer can be asked for again",
        (ResponseSpec(200, schemas.RedeemResponse),),
        {
            400: ("INVALID_TOKEN", "INVALID_REQUEST"),
            404: ("RESERVATION_EXPIRED",),
            409: ("ALREADY_REDEEMED",),
            408: ("BODY_TIMEOUT",),
            413: ("PAYLOAD_TOO_LARGE",),
            415: ("UNSUPPORTED_MEDIA_TYPE",),
        },
        headers=schemas.KeyedHeaders,
        body=schemas.RedeemRequest,
        needed="reservation_token",
    ),
    # Nginx's auth_request knows 2xx, 401 and 403 alone.
    _authorize("nginx", (ResponseSpec(401, None), ResponseSpec(403, None)), {}),
    _authorize("forwarded", (ResponseSpec(302, None),), {429: ("WAITING_ROOM",)}),
    _authorize("envoy", (ResponseSpec(302, None),), {429: ("WAITING_ROOM",)}, "{rest*}"),
    Operation(
        "release",
        "POST",
        "/api/v1/gate/{event_id}/release",
        "gate",
        "End a session: by its pass cookie, or by the reservation token that the backend has",
        (ResponseSpec(200, schemas.ReleaseResponse),),
        {
            400: ("INVALID_TOKEN", "INVALID_REQUEST"),
            408: ("BODY_TIMEOUT",),
            413: ("PAYLOAD_TOO_LARGE",),
            415: ("UNSUPPORTED_MEDIA_TYPE",),
        },
        headers=schemas.RequestHeaders,
        body=schemas.ReleaseRequest,
    ),
    Operation(
        "listEvents",
        "GET",
        "/api/v1/admin/events",
        "admin",
        "List the events, the longest quiet first",
        (ResponseSpec(200, schemas.EventListResponse),),
        {422: ("INVALID_REQUEST",)},
        query=schemas.Page,
        headers=schemas.RequestHeaders,
    ),
    Operation(
        "readEvent",
        "GET",
        _EVENT,
        "admin",
        "Read an event",
        (ResponseSpec(200, schemas.EventResponse),),
        {404: ("EVENT_NOT_FOUND",)},
        headers=schemas.RequestHeaders,
    ),
    Operation(
        "changeEvent",
        "PUT",
        _EVENT,
        "admin",
        "Declare an event, and change what the body names, from the next call on",
        (ResponseSpec(200, schemas.EventResponse),),
        {
            408: ("BODY_TIMEOUT",),
            413: ("PAYLOAD_TOO_LARGE",),
            415: ("UNSUPPORTED_MEDIA_TYPE",),
            422: ("INVALID_REQUEST",),
        },
        headers=schemas.RequestHeaders,
        body=schemas.EventChanges,
    ),
    Operation(
        "relogEvent",
        "POST",
        f"{_EVENT}/relog",
        "admin",
        "Have the log of a damaged line written anew from its members",
        (ResponseSpec(202, schemas.RelogResponse),),
        {409: ("NOT_DAMAGED",)},
        headers=schemas.RequestHeaders,
    ),
    *_read("/healthz", "200 while the process runs", {200: schemas.Health}),
    *_read(
        "/readyz",
        "503 until Redis has answered once, and while draining",
        {200: schemas.Readiness, 503: schemas.Readiness},
    ),
    *_read("/.well-known/jwks.json", "The keys to verify JWTs of passes with", {200: schemas.KeySetResponse}),
    *_read("/metrics", "Metrics, for Prometheus", {200: "text/plain"}),
    *_read("/openapi.json", "This description", {200: "application/json"}),
    *_read("/docs", "This description, to be read", {200: "text/html"}),
)


def bind(handlers: Mapping[str, Handler]) -> list[Route]:
    """The routes of all operations. `handlers` has a handler for each operation's name.

    HEAD has no handler of its own: it is answered wherever GET is. Raises ValueError unless the names agree.
    """
    operations = {one.name: one for one in OPERATIONS if one.method != "HEAD"}
    if odd := operations.keys() ^ handlers.keys():
        raise ValueError(f"an operation without a handler, or the other way around: {', '.join(sorted(odd))}")
    return [Route(ANY if one.any_method else one.method, one.path, handlers[name]) for name, one in operations.items()]
