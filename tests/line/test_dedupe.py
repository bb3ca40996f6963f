"""Idempotency-Keys and verified users: who gets a place that they have already."""

from itertools import count

import pytest

from shared.errors import LogLostError
from shared.line.line import Join
from shared.line.replies import JoinCode
from tests.line.conftest import LIFE, Room

_numbers = count(1)


def key(number: int, user: str = "") -> bytes:
    """As the ingress makes it: 16 bytes of key digest, 8 of user digest; also bytes that are no text."""
    return number.to_bytes(16, "big") + user.encode().rjust(8, b"\xff")


async def replay(room: Room, join: Join) -> tuple[JoinCode, int]:
    (joined,) = await room.enqueue(join)
    return JoinCode(joined.code), joined.ticket


async def join_without_a_key(room: Room) -> None:
    """Any join turns the dedupe hashes over when it is time."""
    await room.enqueue(Join(b"", b""))


async def test_a_replay_gets_the_same_ticket_and_its_place_of_now(closed: Room) -> None:
    before = await closed.join(3)
    (first,) = await closed.enqueue(Join(key(1), b""))
    await closed.leave(before[0])
    (again,) = await closed.enqueue(Join(key(1), b""))
    assert (first.code, first.position) == (JoinCode.NEW, 4)
    assert again == (JoinCode.IN_LINE, first.ticket, 3)
    assert len(await closed.logged()) == 3


async def test_a_replay_in_the_same_batch_gets_the_same_ticket(closed: Room) -> None:
    one, two, three = await closed.enqueue(Join(key(1), b""), Join(b"", b""), Join(key(1), b""))
    assert (one.ticket, one.position) == (three.ticket, three.position)
    assert two.position == 2
    assert len(await closed.logged()) == 2


async def test_a_replay_after_the_ticket_left_gets_a_new_one(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1), b""))
    await room.leave(ticket)
    code, other = await replay(room, Join(key(1), b""))
    assert code == JoinCode.NEW
    assert other > ticket
    assert await replay(room, Join(key(1), b"")) == (JoinCode.IN_LINE, other)


async def test_a_replay_after_the_ticket_expired_gets_a_new_one(closed: Room) -> None:
    _, ticket = await replay(closed, Join(key(1), b""))
    assert await closed.sweep(LIFE) == 1
    assert (await replay(closed, Join(key(1), b"")))[0] == JoinCode.NEW
    assert ticket not in await closed.logged()


async def test_a_replay_after_the_ticket_was_admitted_says_so(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1), b""))
    assert await room.admit(ticket) == [ticket]
    assert await replay(room, Join(key(1), b"")) == (JoinCode.ADMITTED, ticket)
    assert await room.logged() == {}


async def test_a_replay_by_someone_called_is_told_their_place_at_the_front(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1), b""))
    await room.poll(ticket)
    assert await room.called() == [ticket]
    (again,) = await room.enqueue(Join(key(1), b""))
    assert again == (JoinCode.IN_LINE, ticket, 1)


async def test_a_replay_by_someone_who_stepped_aside_brings_them_back(closed: Room) -> None:
    _, ticket = await replay(closed, Join(key(1), b""))
    await closed.line.configure(closed.event, {"rate": "1", "burst": "4"})
    closed.clock.advance(100)
    later = await closed.join(2)
    await closed.poll(*later)
    assert (await closed.absent(), await closed.called()) == ([ticket], later)
    (again,) = await closed.enqueue(Join(key(1), b""))
    assert again == (JoinCode.IN_LINE, ticket, 3)
    assert (await closed.absent(), await closed.waiting()) == ([], [ticket])


async def test_a_key_of_somebody_else_is_refused(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1, "ann"), b"vann"))
    stolen, other = await room.enqueue(Join(key(1, "bob"), b"vbob"), Join(key(2, "bob"), b"vbob"))
    assert stolen == (JoinCode.KEY_REUSED, 0, 0)
    assert other.code == JoinCode.NEW
    assert list(await room.logged()) == [ticket, other.ticket]


async def test_a_key_of_somebody_else_who_was_admitted_is_refused(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1, "ann"), b"vann"))
    await room.admit(ticket)
    assert (await replay(room, Join(key(1, "bob"), b"vbob")))[0] == JoinCode.KEY_REUSED


async def test_a_key_of_somebody_else_who_left_is_free(room: Room) -> None:
    _, ticket = await replay(room, Join(key(1, "ann"), b"vann"))
    await room.leave(ticket)
    assert (await replay(room, Join(key(1, "bob"), b"vbob")))[0] == JoinCode.NEW


async def test_the_key_is_looked_at_before_the_users_place(room: Room) -> None:
    _, anns = await replay(room, Join(key(1, "ann"), b"vann"))
    _, bobs = await replay(room, Join(key(2, "bob"), b"vbob"))
    # Bob has a place, which he would be told with any other key.
    assert (await replay(room, Join(key(1, "bob"), b"vbob")))[0] == JoinCode.KEY_REUSED
    assert await replay(room, Join(key(3, "bob"), b"vbob")) == (JoinCode.IN_LINE, bobs)
    assert anns != bobs


async def test_a_verified_user_in_line_gets_their_own_ticket_with_any_key_or_none(room: Room) -> None:
    _, ticket = await replay(room, Join(b"", b"vann"))
    for join in (Join(b"", b"vann"), Join(key(1, "ann"), b"vann"), Join(key(2, "ann"), b"vann")):
        assert await replay(room, join) == (JoinCode.IN_LINE, ticket)
    assert len(await room.logged()) == 1


async def test_a_key_that_found_a_users_place_finds_it_from_then_on(room: Room) -> None:
    await room.enqueue(Join(b"", b"vann"))
    await room.enqueue(Join(key(1, "ann"), b"vann"))
    assert (await replay(room, Join(key(1, "bob"), b"vbob")))[0] == JoinCode.KEY_REUSED


async def test_a_verified_user_twice_in_one_batch_has_one_place(room: Room) -> None:
    joined = await room.enqueue(Join(key(1, "ann"), b"vann"), Join(b"", b"vbob"), Join(b"", b"vann"))
    assert [one.code for one in joined] == [JoinCode.NEW, JoinCode.NEW, JoinCode.IN_LINE]
    assert joined[0].ticket == joined[2].ticket


@pytest.mark.parametrize("way", ["leave", "enter", "expire"])
async def test_a_verified_user_who_is_gone_may_join_anew(room: Room, way: str) -> None:
    _, ticket = await replay(room, Join(b"", b"vann"))
    if way == "leave":
        await room.leave(ticket)
    elif way == "enter":
        await room.admit(ticket)
    else:
        assert await room.sweep(LIFE) == 1
    assert await room.fields(room.keys.places) == {}
    assert (await replay(room, Join(b"", b"vann")))[0] == JoinCode.NEW


async def test_a_label_earns_nothing(room: Room) -> None:
    await room.enqueue(Join(b"", b"vann"))
    labelled = await room.enqueue(Join(b"", b"uann"), Join(b"", b"uann"), Join(b"", b"ubob"))
    verified = await room.enqueue(Join(b"", b"vbob"))
    assert {one.code for one in labelled + verified} == {JoinCode.NEW}
    assert list(await room.fields(room.keys.places)) == ["ann", "bob"]


async def test_a_key_lives_five_minutes_at_least_whenever_it_comes(closed: Room) -> None:
    for _ in range(20):
        # Not a part of the period: the keys come at every moment of it.
        closed.clock.advance(47)
        join = Join(key(next(_numbers)), b"")
        _, ticket = await replay(closed, join)
        for _ in range(6):
            closed.clock.advance(49.9)
            await join_without_a_key(closed)
        assert await replay(closed, join) == (JoinCode.IN_LINE, ticket)


@pytest.mark.parametrize("pause", [1, 30, 200, 299, 301, 599, 650])
async def test_a_key_lives_ten_minutes_at_most_however_seldom_people_join(closed: Room, pause: float) -> None:
    join = Join(key(1), b"")
    _, ticket = await replay(closed, join)
    lived = 0.0
    while lived < 600:
        await join_without_a_key(closed)
        closed.clock.advance(pause)
        lived += pause
    code, other = await replay(closed, join)
    assert (code, other > ticket) == (JoinCode.NEW, True)


async def test_a_clock_that_jumps_back_forgets_no_key(closed: Room) -> None:
    await replay(closed, Join(key(1), b""))
    closed.clock.advance(299)
    _, ticket = await replay(closed, Join(key(2), b""))
    closed.clock.advance(-200)
    await join_without_a_key(closed)
    closed.clock.advance(250)
    await join_without_a_key(closed)
    assert await replay(closed, Join(key(2), b"")) == (JoinCode.IN_LINE, ticket)


async def test_no_key_is_remembered_for_a_join_that_was_refused(closed: Room) -> None:
    await closed.join(2)
    await closed.redis.delete(closed.keys.stream)
    with pytest.raises(LogLostError):
        await closed.enqueue(Join(key(1), b""))
    await closed.repair()
    assert (await replay(closed, Join(key(1), b"")))[0] == JoinCode.NEW


async def test_a_join_without_a_key_leaves_none(room: Room) -> None:
    await room.join(10)
    assert not await room.redis.exists(room.keys.dedupe_new, room.keys.dedupe_old)
