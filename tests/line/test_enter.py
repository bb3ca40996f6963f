"""Enter: one ticket, one reservation, however often and from wherever it is asked for."""

import asyncio

import pytest

from shared.line.line import Join
from shared.line.replies import EnterCode, Entered, PollCode, RedeemCode
from tests.line.conftest import LIFE, MakeRoom, Room

PASS_TTL = 30


def granted_at(now: int) -> Entered:
    """The answer to a first grant at a time in ms."""
    return Entered(EnterCode.GRANTED, 0, now, PASS_TTL * 1000, now, now + PASS_TTL * 1000)


async def test_someone_called_gets_a_reservation(room: Room) -> None:
    (ticket,) = await room.join(who=b"ulabel")
    await room.poll(ticket)
    assert await room.enter(ticket) == [granted_at(room.now)]
    # The log entry, the member and the heartbeat went together.
    assert await room.logged() == {}
    assert not await room.redis.exists(room.keys.called, room.keys.queue, room.keys.heartbeat)
    assert (await room.poll(ticket))[0].code == PollCode.ADMITTED
    assert (await room.totals())["admitted"] == 1


async def test_a_verified_user_who_enters_gives_up_their_place(room: Room) -> None:
    (joined,) = await room.enqueue(Join(b"", b"vann"))
    await room.admit(joined.ticket)
    assert await room.fields(room.keys.places) == {}


async def test_fifty_concurrent_enters_through_several_processes_give_one_reservation(make_room: MakeRoom) -> None:
    rooms = [make_room(admit_rate=0, admit_burst=50) for _ in range(5)]
    (ticket,) = await rooms[0].join()
    answers = await asyncio.gather(*(rooms[i % 5].enter(ticket) for i in range(50)))
    assert {tuple(answer) for answer in answers} == {(granted_at(rooms[0].now),)}
    assert (await rooms[0].totals())["admitted"] == 1
    assert (await rooms[0].standing()).tokens == 49


async def test_one_ticket_fifty_times_in_a_batch_gives_one_reservation(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=50)
    ticket, other = await room.join(2)
    answers = await room.enter(*[ticket] * 25, other, *[ticket] * 25)
    assert {one.code for one in answers} == {EnterCode.GRANTED}
    assert {one.issued for one in answers} == {room.now}
    assert (await room.totals())["admitted"] == 2
    assert (await room.standing()).tokens == 48


async def test_fifty_concurrent_redeems_succeed_once(make_room: MakeRoom) -> None:
    rooms = [make_room() for _ in range(5)]
    (ticket,) = await rooms[0].join()
    await rooms[0].admit(ticket)
    answers = await asyncio.gather(*(rooms[i % 5].line.redeem(rooms[0].event, ticket, rooms[0].now) for i in range(50)))
    codes = sorted(answer.code for answer in answers)
    assert codes == [RedeemCode.REDEEMED] + [RedeemCode.ALREADY_REDEEMED] * 49


async def test_an_enter_before_the_call_tells_the_place(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=1, admit_burst=4)
    tickets = await room.join(10)
    assert await room.enter(tickets[6]) == [Entered(EnterCode.NOT_READY, 7, 0, 0, 0, 0)]
    # It was heard by that as by a poll.
    assert await room.redis.zscore(room.keys.heartbeat, tickets[6]) == room.now


async def test_who_came_in_first_does_not_count_before_the_others_of_the_batch(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=1, admit_burst=4)
    tickets = await room.join(10)
    await room.poll(tickets[0])
    answers = await room.enter(tickets[0], tickets[6], tickets[1], tickets[6])
    assert [one.position for one in answers] == [0, 6, 0, 5]


async def test_an_enter_by_someone_who_never_joined_is_gone(room: Room) -> None:
    (ticket,) = await room.join()
    assert [one.code for one in await room.enter(ticket + 1, 12)] == [EnterCode.GONE] * 2


async def test_an_enter_after_leaving_is_gone(room: Room) -> None:
    (ticket,) = await room.join()
    await room.poll(ticket)
    assert await room.leave(ticket) == 1
    assert (await room.enter(ticket))[0].code == EnterCode.GONE
    assert (await room.standing()).tokens == 500


async def test_a_living_reservation_is_the_same_whenever_it_is_asked_for(room: Room) -> None:
    (ticket,) = await room.join()
    (first,) = await room.enter(ticket)
    room.clock.advance(PASS_TTL - 1)
    assert await room.enter(ticket) == [first._replace(ttl=1000)]


async def test_a_lapsed_reservation_is_issued_again_without_a_second_token(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=5)
    (ticket,) = await room.join()
    (first,) = await room.enter(ticket)
    room.clock.advance(PASS_TTL)
    (second,) = await room.enter(ticket)
    assert second == granted_at(first.issued + PASS_TTL * 1000)._replace(entered=first.entered)
    assert (await room.standing()).tokens == 4
    assert (await room.totals())["admitted"] == 1
    # The first one lapsed for good; the second is the one that counts.
    assert (await room.line.redeem(room.event, ticket, first.issued)).code == RedeemCode.EXPIRED
    assert (await room.line.redeem(room.event, ticket, second.issued)).code == RedeemCode.REDEEMED


@pytest.mark.parametrize(("late", "code"), [(0, EnterCode.GRANTED), (0.001, EnterCode.GONE)])
async def test_it_is_issued_again_until_a_heartbeat_life_after_the_first_grant(
    room: Room, late: float, code: EnterCode
) -> None:
    (ticket,) = await room.join()
    await room.enter(ticket)
    # Issued again in between: the time counts from the first grant.
    await room.sweep(100)
    await room.enter(ticket)
    await room.sweep(LIFE - 100)
    room.clock.advance(late)
    assert (await room.enter(ticket))[0].code == code


async def test_a_clock_that_jumps_back_lapses_no_reservation(room: Room) -> None:
    (ticket,) = await room.join()
    (first,) = await room.enter(ticket)
    room.clock.advance(-1000)
    assert await room.enter(ticket) == [first]
    assert (await room.line.redeem(room.event, ticket, first.issued)).code == RedeemCode.REDEEMED


async def test_a_reservation_is_redeemed_once_and_then_enter_says_so(room: Room) -> None:
    (ticket,) = await room.join(who=b"uann")
    (pass_,) = await room.enter(ticket)
    room.clock.advance(5)
    redeemed = await room.line.redeem(room.event, ticket, pass_.issued)
    assert redeemed[:3] == (RedeemCode.REDEEMED, b"uann", pass_.issued)
    again = await room.line.redeem(room.event, ticket, pass_.issued)
    assert again.code == RedeemCode.ALREADY_REDEEMED
    assert (await room.enter(ticket))[0].code == EnterCode.ALREADY_REDEEMED
    room.clock.advance(PASS_TTL)
    assert (await room.enter(ticket))[0].code == EnterCode.ALREADY_REDEEMED
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == RedeemCode.ALREADY_REDEEMED
    assert (await room.totals())["redeemed"] == 1


async def test_a_redeem_is_answered_again_to_the_key_that_made_it_and_to_no_other(room: Room) -> None:
    (ticket,) = await room.join(who=b"u1 2f x")
    (pass_,) = await room.enter(ticket)
    first = await room.line.redeem(room.event, ticket, pass_.issued, "aa01")
    room.clock.advance(PASS_TTL + 5)
    assert await room.line.redeem(room.event, ticket, pass_.issued, "aa01") == first
    assert first[:3] == (RedeemCode.REDEEMED, b"u1 2f x", pass_.issued)
    for other in ("", "aa02", "aa"):
        again = await room.line.redeem(room.event, ticket, pass_.issued, other)
        assert again.code == RedeemCode.ALREADY_REDEEMED
    assert (await room.enter(ticket))[0].code == EnterCode.ALREADY_REDEEMED
    assert await room.leave(ticket) == 0
    assert (await room.totals())["redeemed"] == 1


async def test_a_redeem_without_a_key_is_never_answered_again(room: Room) -> None:
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == RedeemCode.REDEEMED
    for key in ("", "aa01"):
        assert (await room.line.redeem(room.event, ticket, pass_.issued, key)).code == RedeemCode.ALREADY_REDEEMED


async def test_a_redeem_tells_who_and_when_they_were_first_let_in(room: Room) -> None:
    (joined,) = await room.enqueue(Join(b"", "v대기 1 x".encode()))
    (first,) = await room.enter(joined.ticket)
    room.clock.advance(PASS_TTL + 10)
    (second,) = await room.enter(joined.ticket)
    redeemed = await room.line.redeem(room.event, joined.ticket, second.issued)
    assert redeemed[:3] == (RedeemCode.REDEEMED, "v대기 1 x".encode(), first.issued)


@pytest.mark.parametrize(("seconds", "code"), [(PASS_TTL - 0.001, RedeemCode.REDEEMED), (PASS_TTL, RedeemCode.EXPIRED)])
async def test_a_reservation_can_be_redeemed_for_pass_ttl(room: Room, seconds: float, code: RedeemCode) -> None:
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    room.clock.advance(seconds)
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == code


async def test_a_reservation_with_another_time_of_issue_is_none(room: Room) -> None:
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    for issued in (pass_.issued - 1, pass_.issued + 1, 0):
        assert (await room.line.redeem(room.event, ticket, issued)).code == RedeemCode.EXPIRED
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == RedeemCode.REDEEMED


async def test_someone_who_was_not_let_in_has_nothing_to_redeem(room: Room) -> None:
    (ticket,) = await room.join()
    assert (await room.line.redeem(room.event, ticket, room.now)).code == RedeemCode.EXPIRED


async def test_an_events_own_pass_ttl_holds(room: Room) -> None:
    await room.line.configure(room.event, {"pass_ttl": "5000"})
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    assert pass_.ttl == 5000
    room.clock.advance(5)
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == RedeemCode.EXPIRED


async def test_pass_ttl_is_a_heartbeat_life_at_most(make_room: MakeRoom) -> None:
    room = make_room(pass_ttl=1000)
    (ticket,) = await room.join()
    assert (await room.enter(ticket))[0].ttl == LIFE * 1000


async def test_leave_cancels_a_reservation_that_nobody_redeemed(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=5)
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    assert await room.leave(ticket) == 1
    assert await room.leave(ticket) == 0
    assert (await room.line.redeem(room.event, ticket, pass_.issued)).code == RedeemCode.EXPIRED
    assert (await room.enter(ticket))[0].code == EnterCode.GONE
    assert not await room.redis.exists(room.keys.admitted, room.keys.passes)
    assert (await room.standing()).tokens == 4


async def test_leave_takes_nothing_back_that_was_redeemed(room: Room) -> None:
    (ticket,) = await room.join()
    (pass_,) = await room.enter(ticket)
    await room.line.redeem(room.event, ticket, pass_.issued)
    assert await room.leave(ticket) == 0
    assert (await room.enter(ticket))[0].code == EnterCode.ALREADY_REDEEMED


async def test_a_reservation_is_redeemed_while_the_event_is_paused_or_damaged(room: Room) -> None:
    tickets = await room.join(3)
    passes = await room.enter(*tickets[:2])
    await room.line.configure(room.event, {"paused": "1"})
    assert (await room.line.redeem(room.event, tickets[0], passes[0].issued)).code == RedeemCode.REDEEMED
    await room.redis.delete(room.keys.queue, room.keys.called)
    assert (await room.line.redeem(room.event, tickets[1], passes[1].issued)).code == RedeemCode.REDEEMED


async def test_a_heartbeat_that_lands_after_the_enter_brings_nobody_back(room: Room) -> None:
    (enqueued,) = (await room.line.enqueue(room.event, [Join(b"", b"")], True)).joined
    assert await room.admit(enqueued.ticket) == [enqueued.ticket]
    # The pipeline of a process that was stopped between its two round trips.
    await room.line.confirm(room.event, [enqueued.ticket], room.now, note_activity=True)
    assert (await room.poll(enqueued.ticket))[0].code == PollCode.ADMITTED
    await room.repair()
    assert (await room.waiting(), await room.called(), await room.logged()) == ([], [], {})
    assert len(await room.redis.zrange(room.keys.heartbeat, 0, -1)) == 1
    await room.sweep(LIFE + 5)
    assert not await room.redis.exists(room.keys.heartbeat)


async def test_a_reservation_from_a_time_that_is_yet_to_come_lasts_no_longer_than_any_other(
    room: Room,
) -> None:
    [ticket] = await room.join()
    [first] = await room.enter(ticket)
    room.clock.advance(-10_000)
    # With it goes what keeps session time from following the clock.
    await room.redis.delete(room.keys.state)
    [again] = await room.enter(ticket)
    assert (again.code, again.issued) == (EnterCode.GRANTED, first.issued)
    assert 0 < again.ttl <= 30_000
    assert again.until <= room.now + 30_000
