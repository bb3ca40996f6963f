"""The only place that spells Redis keys."""

from typing import NamedTuple


class EventKeys(NamedTuple):
    """All keys of one event, in the order in which every script over an event takes them.

    They share the hash tag ``{event_id}``, and so a cluster slot.
    """

    stream: str
    rebuild: str
    queue: str
    absent: str
    called: str
    heartbeat: str
    places: str
    dedupe_new: str
    dedupe_old: str
    admitted: str
    passes: str
    state: str
    config: str
    position_index: str
    sessions: str
    ended: str
    insiders: str


class Keys:
    """Builds every key under one prefix (tenancy)."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.events = f"{prefix}events"
        self.pulse = f"{prefix}pulse"
        self.sweep = f"{prefix}sweep"

    def event(self, event_id: str) -> EventKeys:
        """The keys of one event."""
        p, tag = self.prefix, "{" + event_id + "}"
        return EventKeys(
            stream=f"{p}stream:event:{tag}",
            rebuild=f"{p}stream:event:{tag}:rebuild",
            queue=f"{p}queue:event:{tag}",
            absent=f"{p}absent:event:{tag}",
            called=f"{p}called:event:{tag}",
            heartbeat=f"{p}heartbeat:event:{tag}",
            places=f"{p}places:event:{tag}",
            dedupe_new=f"{p}dedupe:event:{tag}:new",
            dedupe_old=f"{p}dedupe:event:{tag}:old",
            admitted=f"{p}admitted:event:{tag}",
            passes=f"{p}passes:event:{tag}",
            state=f"{p}state:event:{tag}",
            config=f"{p}config:event:{tag}",
            position_index=f"{p}position_index:{tag}",
            sessions=f"{p}sessions:event:{tag}",
            ended=f"{p}ended:event:{tag}",
            insiders=f"{p}insiders:event:{tag}",
        )
