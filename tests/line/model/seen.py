"""What an event's keys on Redis hold, and where the model differs."""

from dataclasses import fields
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.line.keys import EventKeys
from shared.line.replies import Described
from tests.line.model.event import FRESH, Pass, State
from tests.line.model.upkeep import Model


class Seen(NamedTuple):
    """All that matters of one event; times in ms."""

    log: dict[int, str]
    line: list[int]
    called: dict[int, int]
    absent: list[int]
    heard: dict[int, int]
    places: dict[str, int]
    admitted: dict[int, int]
    passes: dict[int, str]
    sessions: dict[int, int]
    ended: dict[int, int]
    insiders: dict[str, str]
    rebuild: dict[int, str]
    newest: int | None
    keys_new: dict[bytes, tuple[int, bytes]]
    keys_old: dict[bytes, tuple[int, bytes]]
    state: dict[str, float]

    @property
    def members(self) -> list[int]:
        return sorted([*self.line, *self.called, *self.absent])

    @property
    def whole(self) -> bool:
        """Everybody in the log is in exactly one place."""
        return list(self.log) == self.members

    @property
    def damaged(self) -> bool:
        """As far as counts can tell."""
        return len(self.log) != len(self.members)

    def fresh(self, now: int) -> int:
        """Calls that hold up the next."""
        return sum(now - FRESH < when <= now for when in self.called.values())


STATE = [one.name for one in fields(State) if one.name != "totals"]
NOBODY = Seen({}, [], {}, [], {}, {}, {}, {}, {}, {}, {}, {}, None, {}, {}, {})


async def look(redis: Redis, keys: EventKeys) -> Seen:
    """What they hold now."""
    pipeline = redis.pipeline(transaction=False)
    for stream in (keys.stream, keys.rebuild):
        pipeline.xrange(stream)
    for times in (keys.queue, keys.called, keys.absent, keys.heartbeat, keys.admitted, keys.sessions, keys.ended):
        pipeline.zrange(times, 0, -1, withscores=True)
    for hashed in (keys.insiders, keys.places, keys.passes, keys.dedupe_new, keys.dedupe_old, keys.state):
        pipeline.hgetall(hashed)
    pipeline.xinfo_stream(keys.stream)
    *found, insiders, places, passes, new, old, state, info = await pipeline.execute(raise_on_error=False)
    log, rebuild = ({_ticket(entry): held[b"u"].decode() for entry, held in entries} for entries in found[:2])
    queue, called, absent, heard, admitted, sessions, ended = (
        {int(t): int(score) for t, score in held} for held in found[2:]
    )
    # In line and absent the ticket is the score.
    assert (list(queue), list(absent)) == (list(queue.values()), list(absent.values()))
    return Seen(
        log,
        list(queue),
        called,
        list(absent),
        heard,
        {user.decode(): int(ticket) for user, ticket in places.items()},
        admitted,
        {int(ticket): held.decode() for ticket, held in passes.items()},
        sessions,
        ended,
        {field.decode(): value.decode() for field, value in insiders.items()},
        rebuild,
        None if isinstance(info, ResponseError) else _ticket(info["last-generated-id"]),
        _owners(new),
        _owners(old),
        {name: round(float(state.get(name.encode(), 0)), 6) for name in STATE},
    )


def differences(model: Model, seen: Seen, described: Described) -> dict[str, tuple[Any, Any]]:
    """What Redis holds, and what it says of the event, where the model says otherwise."""
    expected = Seen(
        dict(sorted(model.log.items())),
        sorted(model.line),
        model.called,
        sorted(model.absent),
        model.heard,
        model.places,
        model.admitted,
        {ticket: _stored(held) for ticket, held in model.passes.items()},
        model.sessions,
        model.ended,
        {who: str(ticket) for who, ticket in model.insiders.items()}
        | {str(ticket): who for who, ticket in model.insiders.items()},
        model.rebuild,
        model.newest,
        model.keys_new,
        model.keys_old,
        {name: round(float(getattr(model.state, name) or 0), 6) for name in STATE},
    )
    told = described.standing._asdict() | {"totals": described.totals}
    standing = model.standing()._asdict() | {"totals": {name: model.state.totals[name] for name in described.totals}}
    differing = {
        name: (told[name], value)
        for name, value in standing.items()
        if value is not None and not _same(told[name], value)
    }
    for name, one, other in zip(Seen._fields, seen, expected, strict=True):
        if not _same(one, other):
            differing[name] = one, other
    return differing


def _stored(held: Pass) -> str:
    digit = "1" if held.redeemed else "2" if held.arrived else "0"
    return f"{held.issued} {digit}{held.key} {held.who}"


def _same(told: Any, value: Any) -> bool:
    """Numbers are told in six digits."""
    if isinstance(value, float):
        return abs(told - value) <= 1e-5 * abs(value) + 1e-6
    return bool(told == value)


def _owners(hashed: dict[bytes, bytes]) -> dict[bytes, tuple[int, bytes]]:
    """Digest of a key -> ticket and digest of its owner."""
    return {key: (int(held[:-8]), held[-8:]) for key, held in hashed.items()}


def _ticket(entry: bytes) -> int:
    ms, seq = entry.split(b"-")
    return int(ms) * 1000 + int(seq)
