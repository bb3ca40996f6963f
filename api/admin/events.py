"""The admin API: operators list, read and change events."""

from collections.abc import Sequence
from hmac import compare_digest
from urllib.parse import parse_qs

import msgspec
import structlog
from msgspec import UNSET
from pydantic import SecretStr

from api.contract.schemas import (
    EventChanges,
    EventConfig,
    EventIndex,
    EventListEntry,
    EventListResponse,
    EventResponse,
    Page,
    RelogResponse,
)
from api.http.errors import HttpError
from api.http.request import Request
from api.http.response import Response, json_response, rfc3339
from api.serving.next_url import ROOMLESS, is_origin, is_safe
from api.serving.sites import Room
from api.serving.worker_outbox import WorkerOutbox
from shared.event_id import EVENT_ID
from shared.line.line import Line
from shared.line.replies import Described, RoomRecord
from shared.tokens.connector import CONNECTOR_EVENT_ID

_log = structlog.get_logger(__name__)

_MAX_LISTED = 1000


class Admin:
    """The handlers of /api/v1/admin, behind bearer keys.

    `for_connectors`: whether events are for Queue-it's connectors too, which do not take every name.
    """

    def __init__(
        self, line: Line, outbox: WorkerOutbox, keys: Sequence[SecretStr], *, for_connectors: bool = False
    ) -> None:
        self._line = line
        self._for_connectors = for_connectors
        self._outbox = outbox
        self._keys = [key.get_secret_value().encode() for key in keys]
        self._decode = msgspec.json.Decoder(EventChanges).decode

    async def list_events(self, request: Request) -> Response:
        """GET /api/v1/admin/events?offset=&limit="""
        self._authorize(request)
        page = _page(request)
        events = await self._line.events(page.offset, min(page.limit, _MAX_LISTED))
        total = await self._line.count_events()
        listed = [EventListEntry(event_id, rfc3339(activity * 1000)) for event_id, activity in events]
        return json_response(200, EventListResponse(listed, page.offset, total))

    async def read_event(self, request: Request) -> Response:
        """GET /api/v1/admin/events/{event_id}"""
        self._authorize(request)
        return await self._describe(request.parameters["event_id"])

    async def change_event(self, request: Request) -> Response:
        """PUT /api/v1/admin/events/{event_id}: declares it and changes what the body names, from the next call on."""
        self._authorize(request)
        event_id = request.parameters["event_id"]
        if not EVENT_ID.fullmatch(event_id):
            raise HttpError(422, "INVALID_REQUEST", f"event_id must match {EVENT_ID.pattern}")
        if event_id in ROOMLESS:
            raise HttpError(422, "INVALID_REQUEST", f"{event_id!r} cannot be declared: its waiting room has no address")
        try:
            asked = await request.json(self._decode)
        except HttpError as error:
            if error.code == "INVALID_REQUEST":
                error.status = 422
            raise
        if self._for_connectors and not CONNECTOR_EVENT_ID.fullmatch(event_id):
            await self._refuse_to_connectors(event_id, asked)
        changes = {"declared": "1", **_line_changes(asked)}
        if room := _room_changes(asked):
            changes["room"] = (await self._changed_room(event_id, room)).decode()
        await self._line.configure(event_id, changes)
        _log.info(
            "an event was changed", event_id=event_id, **{name: it for name, it in changes.items() if it != "room"}
        )
        self._outbox.mark_changed(event_id)
        return await self._describe(event_id)

    async def relog_event(self, request: Request) -> Response:
        """POST /api/v1/admin/events/{event_id}/relog: asks for a damaged line's log to be rebuilt from its members."""
        self._authorize(request)
        event_id = request.parameters["event_id"]
        if not EVENT_ID.fullmatch(event_id) or not await self._line.request_log_rebuild(event_id):
            raise HttpError(409, "NOT_DAMAGED", "the line of this event is not damaged")
        self._outbox.request_repair(event_id)
        _log.info("the log of an event is to be written anew", event_id=event_id)
        return json_response(202, RelogResponse("repairing"))

    async def _refuse_to_connectors(self, event_id: str, asked: EventChanges) -> None:
        """Raises HttpError 422 for an event that is new or is to have targets. One that is there can be changed: it may
        have to be paused.
        """
        if asked.targets or await self._line.room(event_id) is None:
            raise HttpError(
                422,
                "INVALID_REQUEST",
                f"event_id must match {CONNECTOR_EVENT_ID.pattern} while DAEGI_CONNECTOR_SECRET is set: "
                "Queue-it's connectors take no other",
            )

    async def _changed_room(self, event_id: str, changes: dict[str, object]) -> bytes:
        """The JSON of an event's room with these changes. Raises HttpError 422."""
        record = await self._line.room(event_id)
        room = msgspec.structs.replace(msgspec.json.decode(record.room if record else b"{}", type=Room), **changes)
        if odd := [target for target in room.targets if not is_origin(target)]:
            raise HttpError(422, "INVALID_REQUEST", f"{odd[0]!r} is no origin like https://shop.example:8443")
        for name, url in (("home", room.home), ("logo", room.logo or "/")):
            if not is_safe(url, room.targets if name == "home" else ()):
                raise HttpError(422, "INVALID_REQUEST", f"{name} has to be a path of the site, such as /")
        return msgspec.json.encode(room)

    async def _describe(self, event_id: str) -> Response:
        if not EVENT_ID.fullmatch(event_id):
            raise HttpError(404, "EVENT_NOT_FOUND", "there is no such event")
        found = await self._line.describe(event_id)
        if not found.declared and not found.open:
            raise HttpError(404, "EVENT_NOT_FOUND", "there is no such event")
        standing = found.standing
        index, record = await self._line.index(event_id), await self._line.room(event_id)
        return json_response(
            200,
            EventResponse(
                event_id,
                found.declared,
                _config(found, record),
                found.totals,
                standing.waiting,
                found.called,
                found.absent,
                standing.tokens,
                standing.damaged,
                index and EventIndex(rfc3339(index.standing.now * 1000), index.standing.waiting, index.averages),
                found.active,
                found.openings,
            ),
        )

    def _authorize(self, request: Request) -> None:
        if not self._keys:
            raise HttpError(503, "ADMIN_DISABLED", "set DAEGI_ADMIN_KEYS to use the admin API")
        given = request.bearer().encode("latin-1")
        # Every key is compared, so that the time does not reveal which one nearly matches.
        fits = [compare_digest(given, key) for key in self._keys]
        if not any(fits):
            raise HttpError(
                401, "UNAUTHORIZED", "a valid admin key is needed", headers=(("www-authenticate", "Bearer"),)
            )


def _line_changes(asked: EventChanges) -> dict[str, str]:
    """What the Lua steps need, as they read it: times in ms, '' for none."""
    changes = {}
    for name in ("rate", "burst"):
        if (number := getattr(asked, name)) is not UNSET:
            changes[name] = str(number)
    for name in ("pass_ttl", "session_ttl", "session_limit"):
        if (seconds := getattr(asked, name)) is not UNSET:
            changes[name] = "" if seconds is None else str(round(seconds * 1000))
    if asked.paused is not UNSET:
        changes["paused"] = str(int(asked.paused))
    if asked.max_active is not UNSET:
        changes["max_active"] = "" if asked.max_active is None else str(asked.max_active)
    return changes


def _room_changes(asked: EventChanges) -> dict[str, object]:
    names = [field for field in Room.__struct_fields__ if getattr(asked, field) is not UNSET]
    return {name: tuple(asked.targets) if name == "targets" else getattr(asked, name) for name in names}  # type: ignore[arg-type] # it is set


def _config(found: Described, record: RoomRecord | None) -> EventConfig:
    room = msgspec.json.decode(record.room if record else b"{}", type=Room)
    return EventConfig(
        rate=found.standing.rate,
        burst=found.burst,
        pass_ttl=found.pass_ttl / 1000,
        paused=found.standing.paused,
        max_active=found.max_active,
        session_ttl=found.session_ttl / 1000,
        session_limit=None if found.session_limit is None else found.session_limit / 1000,
        home=room.home,
        targets=list(room.targets),
        on_outage=room.on_outage,
        title=room.title,
        message=room.message,
        logo=room.logo,
        accent=room.accent,
    )


def _page(request: Request) -> Page:
    try:
        query = parse_qs(request.query, max_num_fields=8)
        return msgspec.convert({name: values[0] for name, values in query.items()}, Page, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(422, "INVALID_REQUEST", str(error)) from error
    except ValueError as error:
        raise HttpError(422, "INVALID_REQUEST", "the query has too many parameters") from error
