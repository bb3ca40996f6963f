"""The admin API: operators list, read and change events."""

from collections.abc import Sequence
from hmac import compare_digest
from urllib.parse import parse_qs

import msgspec
import structlog
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
from api.serving.worker_outbox import WorkerOutbox
from shared.event_id import EVENT_ID
from shared.line.line import Line

_log = structlog.get_logger(__name__)

_MAX_LISTED = 1000


class Admin:
    """The handlers of /api/v1/admin, behind bearer keys."""

    def __init__(self, line: Line, outbox: WorkerOutbox, keys: Sequence[SecretStr]) -> None:
        self._line = line
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
        try:
            asked = await request.json(self._decode)
        except HttpError as error:
            if error.code == "INVALID_REQUEST":
                error.status = 422
            raise
        changes: dict[str, str] = {"declared": "1"}
        if asked.rate is not msgspec.UNSET:
            changes["rate"] = str(asked.rate)
        if asked.burst is not msgspec.UNSET:
            changes["burst"] = str(asked.burst)
        if asked.pass_ttl is not msgspec.UNSET:
            changes["pass_ttl"] = str(round(asked.pass_ttl * 1000))
        if asked.paused is not msgspec.UNSET:
            changes["paused"] = str(int(asked.paused))
        await self._line.configure(event_id, changes)
        _log.info("an event was changed", event_id=event_id, **changes)
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

    async def _describe(self, event_id: str) -> Response:
        if not EVENT_ID.fullmatch(event_id):
            raise HttpError(404, "EVENT_NOT_FOUND", "there is no such event")
        found = await self._line.describe(event_id)
        if not found.declared and not found.open:
            raise HttpError(404, "EVENT_NOT_FOUND", "there is no such event")
        standing = found.standing
        index = await self._line.index(event_id)
        return json_response(
            200,
            EventResponse(
                event_id,
                found.declared,
                EventConfig(standing.rate, found.burst, found.pass_ttl / 1000, standing.paused),
                found.totals,
                standing.waiting,
                found.called,
                found.absent,
                standing.tokens,
                standing.damaged,
                index and EventIndex(rfc3339(index.standing.now * 1000), index.standing.waiting, index.averages),
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


def _page(request: Request) -> Page:
    try:
        query = parse_qs(request.query, max_num_fields=8)
        return msgspec.convert({name: values[0] for name, values in query.items()}, Page, strict=False)
    except msgspec.ValidationError as error:
        raise HttpError(422, "INVALID_REQUEST", str(error)) from error
    except ValueError as error:
        raise HttpError(422, "INVALID_REQUEST", "the query has too many parameters") from error
