"""Brings lines into a state directly, without the api."""

import msgspec
from redis.asyncio import Redis

from shared.line.keys import Keys
from shared.line.line import Join, Line


async def fill(line: Line, event: str, people: int) -> list[int]:
    """Puts people without keys into a line directly; returns their tickets in order."""
    tickets: list[int] = []
    while len(tickets) < people:
        batch = await line.enqueue(event, [Join(b"", b"")] * min(256, people - len(tickets)), may_create=True)
        some = [joined.ticket for joined in batch.joined]
        await line.confirm(event, some, batch.standing.now, note_activity=False)
        await line.note_activity([event], batch.standing.now)
        tickets += some
    return tickets


async def age_index(redis: Redis, event: str, seconds: float, prefix: str = "") -> None:
    """Publishes an event's index as if it had been computed some seconds ago."""
    key = Keys(prefix).event(event).position_index
    blob = await redis.execute_command("GET", key, NEVER_DECODE=True)
    standing, *rest = msgspec.msgpack.decode(blob)
    server_seconds, micros = await redis.time()
    # The index's time is a string: Lua's numbers would lose digits in msgpack.
    standing[0] = str(int(server_seconds * 1000 + micros / 1000 - seconds * 1000))
    await redis.set(key, msgspec.msgpack.encode([standing, *rest]))
