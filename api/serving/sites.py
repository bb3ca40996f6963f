"""What operators have set for the sites behind an event: read when asked for, kept through an outage."""

from collections import OrderedDict
from typing import Literal

import msgspec

from api.serving.clock import RedisClock
from api.serving.next_url import ROOMLESS
from shared.errors import DaegiError, UnavailableError
from shared.event_id import EVENT_ID
from shared.line.line import Line

_FRESH_MS = 1000
_MOST_EVENTS = 10_000


class Room(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the room of an event says and where it leads; kept as one JSON field beside the event's other settings."""

    home: str = "/"
    targets: tuple[str, ...] = ()
    on_outage: Literal["closed", "open"] = "closed"
    title: str = ""
    message: str = ""
    logo: str = ""
    accent: str = ""


class Site(msgspec.Struct, frozen=True):
    """A declared event's room, and how long its sessions last, in ms (a limit of None is none)."""

    room: Room
    session_ttl: int
    session_limit: int | None
    max_active: int | None


class Sites:
    """The sites of the events that this process serves, each read at most once a second."""

    def __init__(self, line: Line, clock: RedisClock) -> None:
        self._line, self._clock = line, clock
        self._known: OrderedDict[str, tuple[int, Site | None]] = OrderedDict()
        self._decode = msgspec.json.Decoder(Room).decode

    async def get(self, event_id: str) -> Site | None:
        """The site of a declared event, else None. Raises UnavailableError if it was never read and cannot be now."""
        if event_id in ROOMLESS or not EVENT_ID.fullmatch(event_id):
            return None
        now = self._clock.now() or 0
        known = self._known.get(event_id)
        if known and 0 <= now - known[0] < _FRESH_MS:
            return known[1]
        if known:
            # Until there is an answer everybody else goes on with the last one.
            self._known[event_id] = now, known[1]
        try:
            if self._line.is_away(event_id):
                raise UnavailableError
            record = await self._line.room(event_id)
        except DaegiError:
            if known is None or known[1] is None:
                raise
            return known[1]
        site = None
        if record:
            room = self._decode(record.room)
            site = Site(room, record.session_ttl, record.session_limit, record.max_active)
        self._known[event_id] = now, site
        self._known.move_to_end(event_id)
        if len(self._known) > _MOST_EVENTS:
            self._known.popitem(last=False)
        return site
