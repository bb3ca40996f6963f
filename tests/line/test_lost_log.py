"""A log that is lost beside a living line: nothing is deleted, and it is written back with its users, in order."""

import pytest

from shared.errors import LogLostError
from shared.line.line import Join
from shared.line.replies import EnterCode, JoinCode, PollCode, RelogCode
from tests.line.conftest import LIFE, MakeRoom, Room

PEOPLE = 20


@pytest.fixture
async def lost(make_room: MakeRoom) -> Room:
    """Five people absent, five called, ten in line, every second one verified; their log is gone."""
    room = make_room(admit_rate=1, admit_burst=5)
    people = [Join(b"", b"v%d" % i if i % 2 else b"u%d" % i) for i in range(PEOPLE)]
    tickets = [one.ticket for one in await room.enqueue(*people)]
    room.clock.advance(100)
    await room.poll(*tickets[5:])
    assert (len(await room.absent()), len(await room.called())) == (5, 5)
    await room.redis.delete(room.keys.stream)
    return room


async def members(room: Room) -> list[int]:
    return sorted([*await room.absent(), *await room.called(), *await room.waiting()])


async def relog(room: Room, tickets: list[int], *, begin: bool = False, finish: bool = False) -> RelogCode:
    """One call of the steps that repair makes."""
    users = await room.line.known_users(room.event)
    return await room.line.relog(room.event, [(t, users.get(t, b"")) for t in tickets], begin=begin, finish=finish)


async def test_joins_are_refused_until_the_log_is_back(lost: Room) -> None:
    before = await members(lost)
    with pytest.raises(LogLostError):
        await lost.enqueue(Join(b"", b""))
    assert (await lost.logged(), await members(lost)) == ({}, before)
    await lost.repair()
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert joined.ticket > before[-1]
    assert joined.position > 0


async def test_joins_go_on_though_the_state_was_lost_too_and_the_clock_jumped_back(lost: Room) -> None:
    newest = (await members(lost))[-1]
    await lost.redis.delete(lost.keys.state)
    lost.clock.advance(-1000)
    await lost.repair()
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert joined.ticket == newest + 1


async def test_nobody_is_called_let_in_expired_or_deleted(lost: Room) -> None:
    before = await members(lost)
    standing, polled = await lost.line.poll(lost.event, before)
    assert (standing.damaged, standing.log_lost) == (True, True)
    assert set(polled) == {(PollCode.WAITING, 0)}
    assert {one.code for one in await lost.enter(*before)} == {EnterCode.NOT_READY}
    assert await lost.sweep(2 * LIFE) == 0
    assert await members(lost) == before


async def test_the_log_is_written_back_in_ticket_order_with_the_users_that_places_knows(lost: Room) -> None:
    tickets = await members(lost)
    places = await lost.fields(lost.keys.places)
    await lost.repair()
    assert await lost.logged() == {ticket: f"v{i}" if i % 2 else "" for i, ticket in enumerate(tickets)}
    assert list(await lost.logged()) == tickets
    assert await members(lost) == tickets
    assert await lost.fields(lost.keys.places) == places
    assert not (await lost.standing()).damaged
    assert not await lost.redis.exists(lost.keys.rebuild)


async def test_a_verified_user_finds_their_ticket_in_the_new_log(lost: Room) -> None:
    tickets = await members(lost)
    await lost.repair()
    (again,) = await lost.enqueue(Join(b"", b"v13"))
    assert again.ticket == tickets[13]


async def test_departures_while_it_is_written_back_are_honoured(lost: Room) -> None:
    tickets = await members(lost)
    assert await relog(lost, tickets[:12], begin=True) == RelogCode.WRITTEN
    # One who is written back already, one who is about to be, and one whose piece comes later.
    gone = [tickets[3], tickets[13], tickets[19]]
    await lost.leave(*gone)
    assert await relog(lost, tickets[12:18]) == RelogCode.WRITTEN
    await lost.leave(tickets[16])
    assert await relog(lost, tickets[18:]) == RelogCode.WRITTEN
    assert await relog(lost, [], finish=True) == RelogCode.DONE
    left = [ticket for ticket in tickets if ticket not in {*gone, tickets[16]}]
    assert list(await lost.logged()) == await members(lost) == left
    assert not (await lost.standing()).damaged


async def test_a_verified_user_who_left_meanwhile_may_join_anew(lost: Room) -> None:
    tickets = await members(lost)
    await lost.leave(tickets[13])
    await lost.repair()
    (anew,) = await lost.enqueue(Join(b"", b"v13"))
    assert (anew.code, anew.ticket > tickets[-1]) == (JoinCode.NEW, True)
    assert (await lost.fields(lost.keys.places))["13"] == str(anew.ticket)


async def test_it_is_not_put_in_place_while_somebody_is_missing(lost: Room) -> None:
    tickets = await members(lost)
    assert await relog(lost, tickets[:12], begin=True) == RelogCode.WRITTEN
    assert await relog(lost, [], finish=True) == RelogCode.INCOMPLETE
    assert (await lost.standing()).log_lost
    assert await lost.logged() == {}
    await lost.repair()
    assert list(await lost.logged()) == tickets


async def test_a_second_rebuild_takes_nothing_over_from_one_that_was_left(lost: Room) -> None:
    tickets = await members(lost)
    # It knew nobody's user.
    nameless = [(ticket, b"") for ticket in tickets[:15]]
    assert await lost.line.relog(lost.event, nameless, begin=True) == RelogCode.WRITTEN
    await lost.leave(*tickets[:5])
    await lost.repair()
    assert await lost.logged() == {tickets[i]: f"v{i}" if i % 2 else "" for i in range(5, PEOPLE)}


async def test_pieces_that_come_again_or_late_change_nothing(lost: Room) -> None:
    tickets = await members(lost)
    assert await relog(lost, tickets[:12], begin=True) == RelogCode.WRITTEN
    for piece in (tickets[:12], tickets[4:8], tickets[8:15], [tickets[3], tickets[15]]):
        assert await relog(lost, piece) == RelogCode.WRITTEN
    assert await relog(lost, tickets[10:], finish=True) == RelogCode.DONE
    assert await lost.logged() == {ticket: f"v{i}" if i % 2 else "" for i, ticket in enumerate(tickets)}


async def test_nobody_who_is_no_member_is_written_into_it(lost: Room) -> None:
    tickets = await members(lost)
    strangers = [tickets[0] - 5, tickets[4] + 10_000, tickets[-1] + 99]
    await relog(lost, sorted([*tickets, *strangers]), begin=True)
    assert await relog(lost, [], finish=True) == RelogCode.DONE
    assert list(await lost.logged()) == tickets


async def test_a_log_that_is_not_lost_is_not_written_anew(room: Room) -> None:
    await room.enqueue(Join(b"", b"vann"))
    before = await room.logged()
    assert await relog(room, [next(iter(before))], begin=True) == RelogCode.NOT_LOST
    assert await room.logged() == before


async def test_everybody_may_leave_a_line_without_a_log(lost: Room) -> None:
    tickets = await members(lost)
    await lost.leave(*tickets)
    assert await members(lost) == []
    assert not (await lost.standing()).damaged
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert joined.ticket > tickets[-1]
    assert list(await lost.logged()) == [joined.ticket]


async def test_tickets_that_were_given_before_are_not_given_again(lost: Room) -> None:
    last = (await members(lost))[-1]
    await lost.leave(last)
    await lost.repair()
    await lost.redis.delete(lost.keys.state)
    lost.clock.advance(-3600)
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert joined.ticket > last


@pytest.mark.parametrize("then", ["it is written back", "all leave"])
async def test_the_ticket_of_somebody_who_left_while_log_and_state_were_lost_is_not_given_again(
    lost: Room, then: str
) -> None:
    tickets = await members(lost)
    await lost.redis.delete(lost.keys.state)
    await lost.leave(tickets[-1])
    if then == "all leave":
        await lost.leave(*tickets)
    else:
        await lost.repair()
    lost.clock.advance(-3600)
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert joined.ticket > tickets[-1]
    # Nor is a new event made of it, whose bucket would be full.
    assert (await lost.standing()).tokens == 0


async def test_people_come_in_again_once_it_is_back(lost: Room) -> None:
    called = await lost.called()
    await lost.repair()
    assert await lost.admit(*called) == called


async def test_a_log_that_is_lost_together_with_places_and_heartbeats_comes_back_without_users(lost: Room) -> None:
    tickets = await members(lost)
    await lost.redis.delete(lost.keys.places, lost.keys.heartbeat, lost.keys.position_index)
    for _ in range(2):
        await lost.repair()
    assert await lost.logged() == dict.fromkeys(tickets, "")
    assert await lost.sweep(LIFE - 5) == 0


async def test_a_long_log_comes_back_piece_by_piece(closed: Room) -> None:
    tickets = await closed.join(1203)
    (ann,) = await closed.enqueue(Join(b"", b"vann"))
    await closed.redis.delete(closed.keys.stream)
    await closed.repair()
    assert await closed.logged() == dict.fromkeys(tickets, "") | {ann.ticket: "vann"}


async def test_a_member_without_a_log_entry_is_never_removed_by_repair(room: Room) -> None:
    tickets = await room.join(5)
    for key in (room.keys.queue, room.keys.called, room.keys.absent):
        await room.redis.zadd(key, {str(tickets[0] - 10): tickets[0] - 10})
        await room.repair()
        assert await room.redis.zscore(key, tickets[0] - 10) is not None
        assert (await room.standing()).damaged
        assert await room.admit(tickets[0]) == []
        # Only who holds that ticket may end it.
        await room.leave(tickets[0] - 10)
        assert not (await room.standing()).damaged


async def test_a_log_that_lost_some_entries_is_an_alarm_that_an_operator_ends(lost: Room) -> None:
    await lost.repair()
    tickets = await members(lost)
    for ticket in (tickets[2], tickets[7], tickets[15]):
        await lost.redis.xdel(lost.keys.stream, f"{ticket // 1000}-{ticket % 1000}")
    await lost.repair()
    assert (await lost.standing()).damaged
    assert await members(lost) == tickets
    # Joins go on, for the log itself is there.
    (joined,) = await lost.enqueue(Join(b"", b""))
    assert await lost.line.request_log_rebuild(lost.event)
    with pytest.raises(LogLostError):
        await lost.enqueue(Join(b"", b""))
    await lost.repair()
    assert not (await lost.standing()).damaged
    assert list(await lost.logged()) == [*tickets, joined.ticket]
    assert (await lost.logged())[tickets[15]] == "v15"


async def test_no_rebuild_of_a_sound_log_can_be_requested(room: Room) -> None:
    await room.join(3)
    assert not await room.line.request_log_rebuild(room.event)
    assert len(await room.join()) == 1


async def test_requesting_a_rebuild_for_an_incomplete_line_loses_nobody_who_is_only_in_the_log(lost: Room) -> None:
    await lost.repair()
    tickets = await members(lost)
    await lost.redis.delete(lost.keys.queue)
    assert await lost.line.request_log_rebuild(lost.event)
    await lost.repair()
    assert list(await lost.logged()) == await members(lost) == tickets
