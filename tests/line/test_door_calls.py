"""The door calls people one by one from the head of the line; who is silent steps aside."""

import pytest

from shared.line.line import Join
from shared.line.replies import EnterCode, PollCode
from tests.line.conftest import LIFE, MakeRoom, Room

READY_TTL = 90
"""Silence, in seconds, after which someone whose turn it is steps aside."""

CALL_FRESH = 4
AT_ONCE = 64
"""People whom one script call examines at most."""


@pytest.fixture
def slow(make_room: MakeRoom) -> Room:
    """One that lets in one person a second, and four at once."""
    return make_room(admit_rate=1, admit_burst=4)


async def test_only_the_first_are_called_and_only_as_many_as_there_are_tokens(slow: Room) -> None:
    tickets = await slow.join(20)
    # The last one's poll calls the first ones: the door needs nobody in particular.
    assert await slow.positions(tickets[-1]) == [20]
    assert await slow.called() == tickets[:4]
    assert await slow.waiting() == tickets[4:]


@pytest.mark.parametrize("way", ["poll", "enter", "sweep"])
async def test_whoever_comes_opens_the_door(slow: Room, way: str) -> None:
    tickets = await slow.join(20)
    if way == "poll":
        await slow.poll(tickets[10])
    elif way == "enter":
        assert await slow.admit(tickets[10]) == []
    else:
        await slow.reap()
    assert await slow.called() == tickets[:4]


async def test_a_poll_by_someone_who_is_gone_opens_the_door_too(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.leave(tickets[7])
    assert (await slow.poll(tickets[7]))[0].code == PollCode.GONE
    assert await slow.called() == tickets[:4]


@pytest.mark.parametrize("way", ["poll", "enter", "sweep"])
async def test_a_call_of_a_script_examines_64_people_at_most(room: Room, way: str) -> None:
    tickets = await room.join(300)
    for calls in range(1, 5):
        if way == "poll":
            await room.poll(tickets[-1])
        elif way == "enter":
            await room.enter(tickets[-1])
        else:
            await room.reap()
        assert await room.called() == tickets[: AT_ONCE * calls]


async def test_the_silent_count_among_the_64(room: Room) -> None:
    silent = await room.join(150)
    room.clock.advance(READY_TTL)
    (present,) = await room.join()
    for examined in (AT_ONCE, 2 * AT_ONCE, 150):
        await room.poll(present)
        assert await room.absent() == silent[:examined]
    assert await room.called() == [present]


@pytest.mark.parametrize("tokens", [1, 3, 7, 63])
async def test_no_more_than_64_are_examined_whatever_is_in_the_bucket(make_room: MakeRoom, tokens: int) -> None:
    room = make_room(admit_rate=0, admit_burst=tokens)
    silent = await room.join(150)
    room.clock.advance(READY_TTL)
    (present,) = await room.join()
    await room.poll(present)
    assert await room.absent() == silent[:AT_ONCE]


async def test_people_are_called_in_strict_order_of_their_tickets(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=10, admit_burst=40)
    tickets = await room.join(200)
    order: list[int] = []
    for step in range(60):
        room.clock.advance(1.7)
        # Polls come in any order and from anywhere in the line.
        await room.poll(*tickets[step % 7 :: 7][::-1])
        order += [ticket for ticket in await room.called() if ticket not in order]
    assert order == tickets[: len(order)]
    assert len(order) == 200


async def test_fresh_calls_hold_up_the_next_ones_and_stale_ones_do_not(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.poll(tickets[-1])
    slow.clock.advance(CALL_FRESH - 0.001)
    await slow.poll(tickets[-1])
    assert await slow.called() == tickets[:4]
    slow.clock.advance(0.001)
    await slow.poll(tickets[-1])
    assert await slow.called() == tickets[:8]


async def test_whoever_asks_again_instead_of_entering_holds_up_nobody(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.poll(tickets[-1])
    slow.clock.advance(1)
    assert [one.code for one in await slow.poll(*tickets[:3])] == [PollCode.READY] * 3
    assert await slow.called() == tickets[:4]
    slow.clock.advance(1)
    # Two of those who were told and did not enter; the fourth may come with the next poll.
    assert await slow.positions(*tickets[:2]) == [1, 1]
    assert await slow.called() == tickets[:6]
    assert await slow.positions(*tickets[3:7]) == [2, 3, 4, 5]
    # They keep their right.
    assert await slow.admit(*tickets[:2]) == tickets[:2]


async def test_asking_again_under_a_call_that_is_stale_changes_nothing(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.poll(tickets[-1])
    slow.clock.advance(CALL_FRESH)
    for _ in range(3):
        await slow.poll(tickets[0])
        slow.clock.advance(0.5)
    called_at = await slow.redis.zscore(slow.keys.called, tickets[0])
    assert called_at == slow.now - 1500 - 1000 * CALL_FRESH
    assert await slow.called() == tickets[:8]


async def test_who_enters_makes_room_for_no_more_than_the_tokens_left(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.poll(tickets[-1])
    assert await slow.admit(*tickets[:3]) == tickets[:3]
    await slow.poll(tickets[-1])
    assert await slow.called() == tickets[3:4]
    slow.clock.advance(2)
    await slow.poll(tickets[-1])
    assert await slow.called() == tickets[3:6]


async def test_part_of_a_token_calls_nobody(slow: Room) -> None:
    tickets = await slow.join(20)
    await slow.admit(*tickets[:4])
    slow.clock.advance(0.999)
    assert (await slow.poll(tickets[4]))[0].code == PollCode.WAITING
    assert await slow.called() == []
    slow.clock.advance(0.001)
    assert (await slow.poll(tickets[4]))[0].code == PollCode.READY


async def test_whoever_was_silent_for_ready_ttl_steps_aside(slow: Room) -> None:
    tickets = await slow.join(10)
    slow.clock.advance(READY_TTL - 1)
    await slow.poll(*tickets[6:])
    # One second short of ready_ttl is not silent.
    assert await slow.called() == tickets[:4]
    slow.clock.advance(1 + CALL_FRESH)
    await slow.poll(*tickets[6:])
    assert await slow.absent() == tickets[4:6]
    assert await slow.called() == tickets[:4] + tickets[6:]
    assert (await slow.totals())["stepped_aside"] == 2


async def test_a_returning_no_show_has_their_own_place_again_at_once(slow: Room) -> None:
    tickets = await slow.join(12)
    slow.clock.advance(READY_TTL)
    await slow.poll(*tickets[5:])
    assert await slow.absent() == tickets[:5]
    assert await slow.called() == tickets[5:9]
    (back,) = await slow.poll(tickets[3])
    # Behind the four fresh calls, before everybody in line.
    assert back == (PollCode.WAITING, 5)
    assert await slow.waiting() == [tickets[3], *tickets[9:]]
    slow.clock.advance(CALL_FRESH)
    assert (await slow.poll(tickets[3]))[0] == (PollCode.READY, 1)


async def test_a_returning_no_show_who_enters_at_once_is_let_in_if_it_is_their_turn(slow: Room) -> None:
    tickets = await slow.join(3)
    slow.clock.advance(READY_TTL)
    await slow.poll(tickets[2])
    assert await slow.absent() == tickets[:2]
    assert await slow.admit(tickets[1]) == [tickets[1]]
    assert await slow.absent() == tickets[:1]


async def test_a_no_show_keeps_their_place_in_the_log(slow: Room) -> None:
    tickets = await slow.join(3, b"")
    (ann,) = await slow.enqueue(Join(b"", b"vann"))
    slow.clock.advance(READY_TTL)
    (late,) = await slow.join()
    await slow.poll(late)
    assert await slow.absent() == [*tickets, ann.ticket]
    assert list(await slow.logged()) == [*tickets, ann.ticket, late]
    assert not (await slow.standing()).damaged


@pytest.mark.parametrize("way", ["poll", "enter"])
async def test_during_door_grace_the_silent_are_called_too(slow: Room, way: str) -> None:
    tickets = await slow.join(10)
    slow.clock.advance(READY_TTL + 10)
    if way == "poll":
        await slow.poll(tickets[-1], grace=True)
    else:
        await slow.line.enter(slow.event, [tickets[-1]], grace=True)
    assert (await slow.called(), await slow.absent()) == (tickets[:4], [])


async def test_the_sweep_calls_nobody_during_grace(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.reap(interrupted=slow.now)
    assert (await slow.called(), await slow.absent()) == ([], [])
    await slow.poll(tickets[0])
    assert await slow.called() == tickets[:4]


async def test_whoever_was_never_heard_is_called_and_counts_as_heard_then(slow: Room) -> None:
    tickets = [one.ticket for one in (await slow.line.enqueue(slow.event, [Join(b"", b"")] * 6, True)).joined]
    slow.clock.advance(2 * READY_TTL)
    (late,) = await slow.join()
    await slow.poll(late)
    assert (await slow.called(), await slow.absent()) == (tickets[:4], [])
    assert await slow.redis.zscore(slow.keys.heartbeat, tickets[0]) == slow.now


async def test_the_called_keep_their_right_while_others_are_called(slow: Room) -> None:
    tickets = await slow.join(40)
    await slow.poll(tickets[0])
    for _ in range(11):
        slow.clock.advance(25)
        await slow.poll(*tickets)
    assert len(await slow.called()) > 20
    # Called 275 s ago, and passed by many since.
    assert await slow.admit(tickets[0]) == [tickets[0]]


async def test_a_right_not_taken_up_ends_a_heartbeat_life_after_the_call(slow: Room) -> None:
    (ticket,) = await slow.join()
    await slow.poll(ticket)
    assert await slow.sweep(LIFE - 5, ticket) == 0
    assert await slow.sweep(5) == 1
    assert (await slow.poll(ticket))[0].code == PollCode.GONE
    assert (await slow.enter(ticket))[0].code == EnterCode.GONE


async def test_places_of_the_called_and_of_the_line(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.poll(tickets[0])
    assert await slow.positions(*tickets) == list(range(1, 11))
    slow.clock.advance(CALL_FRESH)
    polled = await slow.poll(*tickets)
    # The first four are stale now: they hold up nobody, and the next four are at the front.
    assert [one.position for one in polled] == [1, 1, 1, 1, 1, 2, 3, 4, 5, 6]
    assert [one.code for one in polled] == [PollCode.READY] * 8 + [PollCode.WAITING] * 2


async def test_someone_called_waits_when_those_called_before_took_the_tokens(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.admit(*tickets[:3])
    slow.clock.advance(CALL_FRESH + 1)
    await slow.poll(tickets[9])
    assert await slow.called() == tickets[3:8]
    assert await slow.admit(*tickets[3:7]) == tickets[3:7]
    assert await slow.poll(tickets[7], tickets[8]) == [(PollCode.WAITING, 1), (PollCode.WAITING, 2)]
    assert (await slow.enter(tickets[7]))[0][:2] == (EnterCode.NOT_READY, 1)
    slow.clock.advance(1)
    assert await slow.admit(tickets[7]) == [tickets[7]]


async def test_a_call_in_the_future_is_not_fresh(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.poll(tickets[0])
    slow.clock.advance(-60)
    assert await slow.positions(tickets[0]) == [1]
    # It holds up nobody, so four more were called.
    assert await slow.called() == tickets[:8]


async def test_an_event_that_is_paused_calls_nobody_and_lets_nobody_in(slow: Room) -> None:
    tickets = await slow.join(10)
    await slow.poll(tickets[0])
    await slow.line.configure(slow.event, {"paused": "1"})
    slow.clock.advance(READY_TTL)
    assert (await slow.poll(tickets[0]))[0] == (PollCode.WAITING, 1)
    assert (await slow.enter(tickets[0]))[0][:2] == (EnterCode.PAUSED, 1)
    await slow.reap()
    assert (await slow.called(), await slow.absent()) == (tickets[:4], [])
    await slow.line.configure(slow.event, {"paused": "0"})
    assert await slow.admit(tickets[0]) == [tickets[0]]
