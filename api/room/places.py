"""What visitors are told of their place, by /place and /live: the status answer, and what the page shows of it."""

from typing import Any

import msgspec

from api.contract.schemas import StatusResponse
from api.queue.listener import Render
from api.room.texts import State
from api.room.visits import Visit
from api.serving.position_cache import PositionCache


class PlaceView:
    """Makes it out of the answers of the queue."""

    def __init__(self, positions: PositionCache) -> None:
        self._positions = positions
        self.read = msgspec.json.Decoder(StatusResponse).decode
        """A status answer, from its body."""

    def told(self, status: StatusResponse, visit: Visit) -> dict[str, Any]:
        """What the page's script is told."""
        told: dict[str, Any] = msgspec.to_builtins(status)
        return told | {
            "state": self.state(status, visit),
            "people": max(0, status.position - 1),
            "reason": self._positions.reason(visit.event_id),
        }

    def render(self, visit: Visit) -> Render:
        """The same for a stream, in JSON."""
        return lambda body: msgspec.json.encode(self.told(self.read(body), visit))

    def state(self, status: StatusResponse, visit: Visit) -> State:
        """What the page shows."""
        if status.status != "waiting":
            return "ready"
        standing = self._positions.standing(visit.event_id)
        if standing is None:
            return "waiting"
        if standing.paused:
            return "paused"
        return "full" if visit.site.max_active is not None and standing.is_full else "waiting"
