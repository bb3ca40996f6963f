"""The sweep's visit: who is expired, who stays, and what is pruned."""

import pytest

from shared.line.line import Join
from shared.line.replies import EnterCode, PollCode, RedeemCode
from tests.line.conftest import GAP_MS, LIFE, MakeRoom, Room


@pytest.fixture
def slow(make_room: MakeRoom) -> Room:
    """One that lets in one person a second, and four at once."""
    return make_room(admit_rate=1, admit_burst=4)


async def test_the_silent_are_expired_after_a_heartbeat_life_and_pollers_stay(closed: Room) -> None:
    silent, pollers = await closed.join(10), await closed.join(10)
    assert await closed.sweep(LIFE - 5, *pollers) == 0
    assert await closed.sweep(5) == 10
    assert list(await closed.logged()) == pollers == await closed.waiting()
    assert [one.code for one in await closed.poll(*silent)] == [PollCode.GONE] * 10
    assert await closed.sweep(LIFE, *pollers) == 0
    assert (await closed.totals())["expired"] == 10


async def test_expiry_takes_everything_of_the_silent(closed: Room) -> None:
    await closed.enqueue(Join(b"", b"vann"))
    (bob,) = await closed.enqueue(Join(b"", b"vbob"))
    await closed.sweep(LIFE, bob.ticket)
    assert await closed.fields(closed.keys.places) == {"bob": str(bob.ticket)}
    assert await closed.redis.zrange(closed.keys.heartbeat, 0, -1) == [str(bob.ticket)]


async def test_a_refreshed_heartbeat_counts_as_a_poll(closed: Room) -> None:
    kept, silent = await closed.join(2)
    await closed.sweep(200)
    assert await closed.line.refresh(closed.event, [kept, 12]) == 1
    assert await closed.sweep(LIFE - 200) == 1
    assert await closed.waiting() == [kept]
    # Nobody who is gone comes back by it.
    assert await closed.line.refresh(closed.event, [silent]) == 0
    assert await closed.redis.zrange(closed.keys.heartbeat, 0, -1) == [str(kept)]


async def test_a_heartbeat_never_goes_back(closed: Room) -> None:
    (ticket,) = await closed.join()
    closed.clock.advance(-50)
    await closed.line.refresh(closed.event, [ticket])
    await closed.line.confirm(closed.event, [ticket], closed.now - 1000, note_activity=False)
    assert await closed.redis.zscore(closed.keys.heartbeat, ticket) == closed.now + 50_000


@pytest.mark.parametrize("where", ["called", "absent"])
async def test_the_silent_are_expired_wherever_they_stand(slow: Room, where: str) -> None:
    tickets = await slow.join(3)
    if where == "absent":
        await slow.line.configure(slow.event, {"paused": "1"})
        assert await slow.sweep(90) == 0
        await slow.line.configure(slow.event, {"paused": "0"})
    await slow.reap()
    assert await (slow.called() if where == "called" else slow.absent()) == tickets
    assert await slow.sweep(LIFE) == 3
    assert await slow.logged() == {}
    assert not await slow.redis.exists(slow.keys.called, slow.keys.absent, slow.keys.queue)


async def test_calls_that_nobody_took_up_depart_after_a_heartbeat_life(slow: Room) -> None:
    pollers = await slow.join(4)
    await slow.poll(*pollers)
    assert await slow.sweep(LIFE - 5, *pollers) == 0
    assert await slow.sweep(5, *pollers, poll_every=5) == 4
    assert (await slow.totals())["expired"] == 4


async def test_calls_do_not_depart_while_the_event_is_paused(slow: Room) -> None:
    pollers = await slow.join(4)
    await slow.poll(*pollers)
    await slow.line.configure(slow.event, {"paused": "1"})
    assert await slow.sweep(2 * LIFE, *pollers) == 0
    assert await slow.called() == pollers
    await slow.line.configure(slow.event, {"paused": "0"})
    assert await slow.admit(*pollers) == pollers


async def test_calls_do_not_depart_while_there_is_no_token(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0.001, admit_burst=4)
    tickets = await room.join(8)
    await room.poll(tickets[0])
    room.clock.advance(6)
    await room.poll(tickets[0])
    assert await room.called() == tickets
    assert await room.admit(*tickets[:4]) == tickets[:4]
    pollers = tickets[4:]
    assert await room.sweep(2 * LIFE, *pollers) == 0
    assert await room.called() == pollers
    # The first token is there after 1,000 s, and whose call was long ago has lost it then.
    assert await room.sweep(1000 - 2 * LIFE, *pollers) == 4


async def test_a_visit_expires_256_people_at_most_and_says_that_there_is_more(closed: Room) -> None:
    (first, *_) = await closed.join(600)
    await closed.sweep(LIFE - 5, first)
    closed.clock.advance(5)
    visits = [(await closed.reap())[:2] for _ in range(4)]
    assert visits == [(True, 256), (True, 256), (False, 87), (False, 0)]
    assert await closed.waiting() == [first]


async def test_a_visit_says_that_there_is_more_when_calls_fill_it(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=100, admit_burst=500)
    silent, pollers = await room.join(100), await room.join(300)
    for _ in range(7):
        await room.poll(*pollers)
    assert await room.called() == [*silent, *pollers]
    await room.sweep(LIFE - 5, *pollers)
    room.clock.advance(5)
    visits = [(await room.reap())[:2] for _ in range(3)]
    assert visits == [(True, 256), (False, 144), (False, 0)]


async def test_a_visit_opens_the_door_even_if_nobody_polls(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.sweep(5)
    assert await slow.called() == tickets[:4]
    # The calls are stale by now, and nobody has been silent for long.
    await slow.sweep(5)
    assert await slow.called() == tickets[:8]


async def test_ghosts_are_passed_over_by_sweeps_alone(slow: Room) -> None:
    ghosts = await slow.join(200)
    await slow.sweep(85)
    (present,) = await slow.join()
    called = len(await slow.called())
    await slow.sweep(20, present, poll_every=5)
    assert present in await slow.called()
    assert await slow.absent() == ghosts[called:]


async def test_reservations_are_pruned_a_life_and_a_pass_after_the_grant(room: Room) -> None:
    first, second = await room.join(2)
    (pass_, _) = await room.enter(first, second)
    await room.line.redeem(room.event, first, pass_.issued)
    await room.sweep(LIFE + 25)
    assert (await room.enter(first))[0].code == EnterCode.ALREADY_REDEEMED
    await room.sweep(10)
    assert not await room.redis.exists(room.keys.admitted, room.keys.passes)
    assert [one.code for one in await room.enter(first, second)] == [EnterCode.GONE] * 2
    assert (await room.line.redeem(room.event, first, pass_.issued)).code == RedeemCode.EXPIRED


async def test_many_reservations_are_pruned_in_pieces(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=500, admit_burst=600)
    tickets = await room.join(600)
    for _ in range(12):
        await room.admit(*tickets)
    assert await room.redis.zcard(room.keys.admitted) == 600
    await room.join()
    await room.sweep(LIFE + 25)
    room.clock.advance(6)
    left = []
    while (await room.reap()).more:
        left.append(await room.redis.zcard(room.keys.admitted))
    assert left == [344, 88]
    assert not await room.redis.exists(room.keys.admitted, room.keys.passes)


async def test_heartbeats_of_nobody_are_dropped_and_expire_nobody(closed: Room) -> None:
    (ticket,) = await closed.join()
    await closed.line.confirm(closed.event, [ticket - 5, ticket - 6], closed.now, note_activity=False)
    assert await closed.sweep(LIFE, ticket) == 0
    assert await closed.redis.zrange(closed.keys.heartbeat, 0, -1) == [str(ticket)]
    assert (await closed.totals())["expired"] == 0


async def test_the_loss_of_the_heartbeats_expires_nobody_who_polls(closed: Room) -> None:
    pollers = await closed.join(1000)
    await closed.sweep(LIFE, *pollers)
    await closed.redis.delete(closed.keys.heartbeat)
    # Half of them poll before anything is repaired.
    await closed.poll(*pollers[::2])
    assert await closed.sweep(40) == 0
    for _ in range(2):
        await closed.repair()
    assert await closed.sweep(2 * LIFE, *pollers) == 0
    assert await closed.waiting() == pollers


async def test_the_loss_of_the_heartbeats_lets_nobody_stand_for_ever(closed: Room) -> None:
    await closed.join(50)
    await closed.redis.delete(closed.keys.heartbeat)
    for _ in range(2):
        await closed.repair()
    assert await closed.sweep(LIFE - 5) == 0
    assert await closed.sweep(5) == 50


@pytest.mark.parametrize("what", ["heartbeat", "called"])
async def test_what_a_clock_that_ran_ahead_wrote_counts_from_now(slow: Room, what: str) -> None:
    slow.clock.advance(10_000)
    tickets = await slow.join(4)
    if what == "called":
        await slow.poll(*tickets)
    slow.clock.advance(-10_000)
    pollers = tickets if what == "called" else []
    assert await slow.sweep(LIFE, *pollers) == 0
    assert await slow.sweep(LIFE + 5, *pollers) == 4


async def test_a_call_that_a_clock_ran_ahead_with_holds_up_the_next_once_it_counts_from_now(slow: Room) -> None:
    tickets = await slow.join(8)
    await slow.poll(*tickets)
    slow.clock.advance(-10)
    await slow.reap()
    assert await slow.called() == tickets[:4]


async def test_a_pause_before_a_jump_back_of_the_clock_keeps_no_call_for_ever(slow: Room) -> None:
    tickets = await slow.join(2)
    await slow.line.configure(slow.event, {"paused": "1"})
    await slow.reap()
    await slow.line.configure(slow.event, {"paused": "0"})
    slow.clock.advance(-10_000)
    await slow.poll(*tickets)
    assert await slow.sweep(LIFE - 5, *tickets) == 0
    assert await slow.sweep(5, *tickets) == 2


async def test_a_visit_of_an_event_that_never_was_writes_nothing(room: Room) -> None:
    reaped = await room.line.reap(room.event, interrupted=0, longest_gap=GAP_MS)
    assert (reaped.more, reaped.expired) == (False, 0)
    assert not await room.redis.exists(*room.keys)
