"""What the room answers a script."""

from typing import Any

import msgspec


class Reply(msgspec.Struct, gc=False):
    """Whatever was asked."""

    location: str | None = None
    waiting_token: str = ""
    status: str = ""
    state: str = ""
    position: int = 0
    eta_sec: float | None = None
    eta_range_sec: tuple[float, float] | None = None
    poll_after_ms: int = 0
    approximate: bool = False
    reason: str = ""
    error: dict[str, Any] | None = None

    @property
    def confirmed_at(self) -> int:
        """When Redis last confirmed this place (ms on its clock), as the token says; 0 without one."""
        return int(self.waiting_token.split("~")[3]) if self.waiting_token.count("~") == 4 else 0

    @property
    def essence(self) -> tuple[str, str, int]:
        """What an event has to tell when it changes."""
        return self.status, self.state, self.position


decode = msgspec.json.Decoder(Reply).decode
