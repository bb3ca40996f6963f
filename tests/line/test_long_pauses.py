"""While nobody can come in a call does not run out, and afterwards its holder has the time to use it."""

from collections.abc import Awaitable, Callable

import pytest

from tests.line.conftest import LIFE, MakeRoom, Room

READY_TTL = 90

Change = Callable[[Room], Awaitable[object]]

SHUT: dict[str, tuple[Change, Change]] = {
    "paused": (
        lambda room: room.line.configure(room.event, {"paused": "1"}),
        lambda room: room.line.configure(room.event, {"paused": "0"}),
    ),
    "without a rate": (
        lambda room: room.line.configure(room.event, {"rate": "0", "burst": "0"}),
        lambda room: room.line.configure(room.event, {"rate": "1", "burst": "4"}),
    ),
    # Its members have one more than the log.
    "damaged": (
        lambda room: room.redis.zadd(room.keys.absent, {"17": 17}),
        lambda room: room.redis.zrem(room.keys.absent, "17"),
    ),
}


@pytest.mark.parametrize("how", SHUT)
async def test_a_door_shut_for_longer_than_a_heartbeat_life_costs_the_called_nothing(
    make_room: MakeRoom, how: str
) -> None:
    room = make_room(admit_rate=1, admit_burst=4)
    called = await room.join(4)
    await room.poll(*called)
    assert await room.called() == called
    shut, open_again = SHUT[how]
    await shut(room)
    assert await room.sweep(LIFE + 50, *called) == 0
    await open_again(room)
    assert await room.sweep(READY_TTL - 5, *called) == 0
    assert await room.called() == called
    assert await room.admit(*called[:2]) == called[:2]
    # Whoever does not use it even then holds it for no longer.
    assert await room.sweep(10, *called[2:], poll_every=5) == 2
