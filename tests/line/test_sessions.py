"""Sessions: who is inside, how many may be, how passes are renewed and released."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.line.line import Join, Renewal
from shared.line.replies import EnterCode, Entered, JoinCode, PollCode, RedeemCode, RoomRecord
from tests.line.conftest import LIFE, MakeRoom, Room

PASS, TTL, SLACK, READY = 30, 300, 2, 90
"""Defaults, in seconds."""


@pytest.fixture
async def capped(room: Room) -> Room:
    """One that holds three people."""
    await room.line.configure(room.event, {"declared": "1", "max_active": "3"})
    return room


async def let_in(room: Room, count: int = 1) -> list[Renewal]:
    """People who come in, with their passes."""
    tickets = await room.join(count)
    return passes(tickets, await room.enter(*tickets))


def passes(tickets: list[int], entered: list[Entered]) -> list[Renewal]:
    return [
        Renewal(ticket, one.until, one.entered)
        for ticket, one in zip(tickets, entered, strict=True)
        if one.code == EnterCode.GRANTED
    ]


async def renew(room: Room, *held: Renewal, grace: bool = False) -> list[Renewal]:
    """Their passes as renewed, without those whose sessions are over."""
    renewed = await room.line.renew(room.event, held, grace=grace)
    return [one._replace(until=until) for one, until in zip(held, renewed.ends, strict=True) if until]


async def code(room: Room, ticket: int) -> EnterCode:
    return EnterCode((await room.enter(ticket))[0].code)


async def inside(room: Room) -> int:
    return (await room.line.describe(room.event)).active


async def ends(room: Room) -> dict[int, int]:
    """Ticket -> when its session ends, in ms from now."""
    found = await room.redis.zrange(room.keys.sessions, 0, -1, withscores=True)
    return {int(ticket): int(score) - room.now for ticket, score in found}


# Coming in


async def test_every_admitted_ticket_has_a_session_for_the_time_to_arrive(room: Room) -> None:
    (held,) = await let_in(room)
    assert (held.entered, held.until) == (room.now, room.now + PASS * 1000)
    assert await ends(room) == {held.ticket: (PASS + SLACK) * 1000}
    assert await inside(room) == 1


async def test_no_more_come_in_than_the_cap_allows(capped: Room) -> None:
    tickets = await capped.join(5)
    assert len(await capped.admit(*tickets)) == 3
    assert await code(capped, tickets[4]) == EnterCode.NOT_READY
    assert (await capped.standing()).tokens == 0
    described = await capped.line.describe(capped.event)
    assert (described.active, described.openings, described.max_active) == (3, 0, 3)
    assert (described.session_ttl, described.session_limit) == (300_000, None)


async def test_openings_are_the_tokens_where_those_are_fewer(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=2)
    await room.line.configure(room.event, {"max_active": "3"})
    assert len(await let_in(room, 5)) == 2
    assert (await room.standing()).tokens == 0


async def test_a_cap_that_was_lowered_lets_nobody_in_until_enough_have_gone(capped: Room) -> None:
    held = await let_in(capped, 3)
    await capped.line.configure(capped.event, {"max_active": "1"})
    (ticket,) = await capped.join()
    # An ETA knows how many have to go first; the door calls nobody.
    assert (await capped.standing()).tokens == -2
    assert (await capped.poll(ticket))[0].code == PollCode.WAITING
    await capped.line.release(capped.event, [one.ticket for one in held[:2]])
    capped.clock.advance(3)
    assert await code(capped, ticket) == EnterCode.NOT_READY
    await capped.line.configure(capped.event, {"max_active": "2"})
    assert await code(capped, ticket) == EnterCode.GRANTED


async def test_a_cap_that_is_lifted_lets_in_as_many_as_there_are_tokens(capped: Room) -> None:
    await let_in(capped, 3)
    await capped.line.configure(capped.event, {"max_active": "", "session_limit": ""})
    assert len(await let_in(capped, 20)) == 20


async def test_a_cap_counts_those_who_came_in_before_there_was_one(room: Room) -> None:
    await let_in(room, 5)
    await room.line.configure(room.event, {"max_active": "6"})
    assert len(await let_in(room, 5)) == 1


async def test_fifty_enters_at_once_through_several_processes_keep_to_the_cap(make_room: MakeRoom) -> None:
    rooms = [make_room() for _ in range(5)]
    await rooms[0].line.configure(rooms[0].event, {"max_active": "7"})
    tickets = await rooms[0].join(50)
    answers = await asyncio.gather(*(rooms[i % 5].enter(ticket) for i, ticket in enumerate(tickets)))
    assert sum(one.code == EnterCode.GRANTED for (one,) in answers) == 7


async def test_a_slot_is_free_again_two_seconds_after_the_pass_of_somebody_who_never_arrived(capped: Room) -> None:
    await let_in(capped, 3)
    (ticket,) = await capped.join()
    capped.clock.advance(PASS + SLACK - 0.001)
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(0.001)
    assert await code(capped, ticket) == EnterCode.GRANTED
    assert await inside(capped) == 1


# Arriving


async def test_the_first_renewal_is_the_arrival_after_which_nothing_is_issued_again(room: Room) -> None:
    first, second = await let_in(room, 2)
    room.clock.advance(10)
    await renew(room, first)
    # Until it lapses it is the same one, for a reply that was lost.
    assert (await room.enter(first.ticket))[0].issued == first.entered
    room.clock.advance(PASS - 10)
    assert await code(room, first.ticket) == EnterCode.ALREADY_REDEEMED
    assert await code(room, second.ticket) == EnterCode.GRANTED


async def test_who_has_arrived_may_still_be_redeemed_once(room: Room) -> None:
    (held,) = await let_in(room)
    await renew(room, held)
    codes = [(await room.line.redeem(room.event, held.ticket, held.entered)).code for _ in range(2)]
    assert codes == [RedeemCode.REDEEMED, RedeemCode.ALREADY_REDEEMED]


async def test_an_older_process_reads_an_arrival_as_a_reservation(room: Room) -> None:
    (held,) = await let_in(room)
    await renew(room, held)
    stored = (await room.fields(room.keys.passes))[str(held.ticket)]
    # "issued, '0' or '1' once redeemed, key, who", as it was read before there were sessions.
    issued, digit, who = stored.split(" ")
    assert (int(issued), digit.isdecimal(), len(digit), digit == "1", who) == (held.entered, True, 1, False, "")


async def test_a_redeem_is_an_arrival_too(capped: Room) -> None:
    (held,) = await let_in(capped)
    capped.clock.advance(10)
    assert (await capped.line.redeem(capped.event, held.ticket, held.entered)).code == RedeemCode.REDEEMED
    assert await ends(capped) == {held.ticket: (TTL + SLACK) * 1000}
    assert await code(capped, held.ticket) == EnterCode.ALREADY_REDEEMED


async def test_a_lapsed_reservation_needs_an_opening_to_be_issued_again_but_no_token(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=3)
    await room.line.configure(room.event, {"max_active": "2"})
    first, _ = await let_in(room, 2)
    room.clock.advance(PASS + SLACK)
    (third,) = await let_in(room)
    assert await code(room, first.ticket) == EnterCode.GRANTED
    assert (await room.standing()).tokens == 0
    room.clock.advance(PASS + SLACK - 1)
    # Theirs still runs, for a second.
    again = (await room.enter(third.ticket))[0]
    assert (again.code, again.issued, again.entered) == (EnterCode.GRANTED, room.now, third.entered)
    assert await inside(room) == 2
    assert (await room.totals())["admitted"] == 3


async def test_who_lapsed_and_finds_the_event_full_waits_for_an_opening(capped: Room) -> None:
    first, *_ = await let_in(capped, 3)
    capped.clock.advance(PASS + SLACK)
    others = await let_in(capped, 3)
    assert await capped.enter(first.ticket) == [Entered(EnterCode.NOT_READY, 1, 0, 0, 0, 0)]
    assert (await capped.line.redeem(capped.event, first.ticket, first.entered)).code == RedeemCode.EXPIRED
    await capped.line.release(capped.event, [others[0].ticket])
    capped.clock.advance(3)
    again = (await capped.enter(first.ticket))[0]
    assert (again.code, again.entered) == (EnterCode.GRANTED, first.entered)


async def test_a_pass_ttl_that_is_raised_makes_no_pass_good_whose_slot_was_given_away(capped: Room) -> None:
    first, *_ = await let_in(capped, 3)
    capped.clock.advance(PASS + SLACK)
    await let_in(capped, 3)
    await capped.line.configure(capped.event, {"pass_ttl": "300000"})
    assert await code(capped, first.ticket) == EnterCode.NOT_READY
    assert (await capped.line.redeem(capped.event, first.ticket, first.entered)).code == RedeemCode.EXPIRED
    assert await renew(capped, first) == []
    assert await inside(capped) == 3


async def test_a_pass_ttl_that_is_raised_lengthens_the_session_with_the_reservation(capped: Room) -> None:
    (held,) = await let_in(capped)
    capped.clock.advance(20)
    await capped.line.configure(capped.event, {"pass_ttl": "300000"})
    (again,) = await capped.enter(held.ticket)
    assert (again.issued, again.until) == (held.entered, held.entered + 300_000)
    assert await ends(capped) == {held.ticket: again.until + SLACK * 1000 - capped.now}


# Renewing


async def test_a_renewed_pass_is_good_for_session_ttl_from_then_on(room: Room) -> None:
    await room.line.configure(room.event, {"session_ttl": "60000"})
    (held,) = await renew(room, *await let_in(room))
    for _ in range(10):
        room.clock.advance(59)
        (held,) = await renew(room, held)
        assert held.until == room.now + 60_000
        assert await ends(room) == {held.ticket: 62_000}


async def test_a_renewal_says_session_time(room: Room) -> None:
    held = await let_in(room)
    assert (await room.line.renew(room.event, held)).now == room.now


async def test_whoever_was_idle_for_longer_is_outside(capped: Room) -> None:
    held = await renew(capped, *await let_in(capped, 3))
    capped.clock.advance(TTL + SLACK - 0.001)
    still = await renew(capped, held[0])
    capped.clock.advance(0.001)
    assert await renew(capped, *held) == await renew(capped, *still)
    assert len(await let_in(capped, 3)) == 2


async def test_a_renewal_never_shortens_a_session(room: Room) -> None:
    (held,) = await renew(room, *await let_in(room))
    await room.line.configure(room.event, {"session_ttl": "10000"})
    (again,) = await renew(room, held)
    assert again.until == room.now + 10_000
    assert await ends(room) == {held.ticket: (TTL + SLACK) * 1000}


async def test_a_session_ends_at_its_limit_whatever_they_do(capped: Room) -> None:
    await capped.line.configure(capped.event, {"session_limit": "400000"})
    (first,) = held = await let_in(capped)
    capped.clock.advance(25)
    (again,) = await capped.enter(first.ticket)
    assert again.entered == first.entered
    for _ in range(3):
        held = await renew(capped, *held)
        capped.clock.advance(120)
    assert [one.until for one in held] == [first.entered + 400_000]
    capped.clock.advance(15)
    assert await renew(capped, *held) == await renew(capped, first) == []
    assert await ends(capped) == {first.ticket: SLACK * 1000}
    assert await code(capped, first.ticket) == EnterCode.ALREADY_REDEEMED


async def test_a_limit_shorter_than_pass_ttl_bounds_the_pass_and_ends_re_issue(room: Room) -> None:
    await room.line.configure(room.event, {"session_limit": "20000"})
    (held,) = await let_in(room)
    assert held.until == room.now + 20_000
    room.clock.advance(20)
    assert await code(room, held.ticket) == EnterCode.GONE


async def test_passes_replayed_at_once_are_one_session(make_room: MakeRoom) -> None:
    rooms = [make_room() for _ in range(4)]
    await rooms[0].line.configure(rooms[0].event, {"max_active": "2"})
    (held,) = await let_in(rooms[0])
    await asyncio.gather(*(renew(rooms[i % 4], held, held) for i in range(20)))
    await asyncio.gather(*(rooms[i % 4].enter(held.ticket) for i in range(20)))
    assert await inside(rooms[0]) == 1
    assert len(await let_in(rooms[0], 3)) == 1


# Sessions of fixed length: those of passes that other sites verify


def fixed(held: Renewal) -> Renewal:
    return held._replace(fixed=True)


async def test_the_arrival_gives_a_fixed_session_its_length_and_nothing_lengthens_it_later(room: Room) -> None:
    (first,) = await let_in(room)
    room.clock.advance(10)
    (held,) = await renew(room, fixed(first))
    assert held.until == room.now + TTL * 1000
    # Also by the older pass.
    for _ in range(4):
        await room.sweep(70)
        assert await renew(room, held, fixed(first)) == [held, held]
    assert await ends(room) == {held.ticket: held.until + SLACK * 1000 - room.now}
    # What is left for the slack is no pass.
    room.clock.advance(20)
    assert room.now == held.until
    assert await renew(room, held, fixed(first)) == []


async def test_a_fixed_session_that_outlasts_its_reservation_is_not_lengthened(room: Room) -> None:
    await room.line.configure(room.event, {"session_ttl": "3600000"})
    (held,) = await renew(room, *map(fixed, await let_in(room)))
    await room.sweep(600)
    assert not await room.redis.exists(room.keys.passes)
    assert await renew(room, held) == [held]


async def test_a_fixed_session_ends_at_the_limit(room: Room) -> None:
    await room.line.configure(room.event, {"session_limit": "60000"})
    (first,) = await let_in(room)
    (held,) = await renew(room, fixed(first))
    assert held.until == first.entered + 60_000
    assert await ends(room) == {held.ticket: 62_000}


async def test_who_is_inside_already_and_goes_elsewhere_has_what_is_left(room: Room) -> None:
    (held,) = await renew(room, *await let_in(room))
    room.clock.advance(200)
    assert await renew(room, fixed(held)) == [fixed(held)]


async def test_a_released_ticket_has_no_fixed_session(room: Room) -> None:
    first, second = await let_in(room, 2)
    (held,) = await renew(room, fixed(first))
    await room.line.release(room.event, [first.ticket, second.ticket])
    assert await renew(room, held, fixed(second)) == []


async def test_a_lost_session_of_fixed_length_is_put_back_for_as_long_as_its_pass_says(capped: Room) -> None:
    held = await renew(capped, *map(fixed, await let_in(capped, 3)))
    capped.clock.advance(100)
    await capped.redis.delete(capped.keys.sessions)
    assert await renew(capped, *held) == held
    assert await let_in(capped) == []
    assert await inside(capped) == 3


async def test_a_redeem_says_from_when_and_until_when_its_holder_may_stay(room: Room) -> None:
    (held,) = await let_in(room)
    room.clock.advance(10)
    redeemed = await room.line.redeem(room.event, held.ticket, held.entered, "aa01")
    assert (redeemed.since, redeemed.until) == (room.now, room.now + TTL * 1000)
    assert await ends(room) == {held.ticket: (TTL + SLACK) * 1000}
    room.clock.advance(299.999)
    assert await room.line.redeem(room.event, held.ticket, held.entered, "aa01") == redeemed
    room.clock.advance(0.001)
    over = await room.line.redeem(room.event, held.ticket, held.entered, "aa01")
    assert over == redeemed._replace(since=0, until=0)


async def test_a_redeem_says_the_true_end_of_a_session_that_lasts_longer(room: Room) -> None:
    await room.line.configure(room.event, {"pass_ttl": "60000", "session_ttl": "20000"})
    (held,) = await let_in(room)
    room.clock.advance(10)
    redeemed = await room.line.redeem(room.event, held.ticket, held.entered)
    assert (redeemed.since, redeemed.until) == (room.now, held.entered + 60_000)


async def test_a_redeem_after_a_release_says_that_nobody_may_stay(room: Room) -> None:
    (held,) = await let_in(room)
    await room.line.redeem(room.event, held.ticket, held.entered, "aa01")
    await room.line.release(room.event, [held.ticket])
    again = await room.line.redeem(room.event, held.ticket, held.entered, "aa01")
    assert (again.code, again.since, again.until) == (RedeemCode.REDEEMED, 0, 0)


# Releasing


async def test_a_released_slot_is_free_three_seconds_later(capped: Room) -> None:
    first, second, _ = await let_in(capped, 3)
    assert await capped.line.release(capped.event, [first.ticket]) == 1
    (ticket,) = await capped.join()
    capped.clock.advance(2.999)
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(0.001)
    assert await code(capped, ticket) == EnterCode.GRANTED
    assert await renew(capped, first, second) == [second._replace(until=capped.now + TTL * 1000)]


async def test_a_released_ticket_is_not_let_in_or_redeemed_again(room: Room) -> None:
    (held,) = await let_in(room)
    await room.line.release(room.event, [held.ticket])
    assert await code(room, held.ticket) == EnterCode.GONE
    assert (await room.line.redeem(room.event, held.ticket, held.entered)).code == RedeemCode.EXPIRED


async def test_a_release_outlasts_a_pass_whose_session_was_lost(room: Room) -> None:
    (held,) = await let_in(room)
    await room.line.configure(room.event, {"declared": "1", "session_ttl": "5000"})
    await room.redis.delete(room.keys.sessions)
    await room.line.release(room.event, [held.ticket])
    room.clock.advance(5 + SLACK)
    # Also after what is over has been forgotten.
    await room.line.release(room.event, [held.ticket])
    assert held.until > room.now
    assert await renew(room, held) == []


async def test_a_release_may_be_repeated(capped: Room) -> None:
    (held,) = await let_in(capped)
    assert await capped.line.release(capped.event, [held.ticket, held.ticket]) == 1
    released = await capped.line.ended(capped.event, -1)
    capped.clock.advance(2)
    assert await capped.line.release(capped.event, [held.ticket]) == 0
    assert await ends(capped) == {held.ticket: 1000}
    assert (await capped.line.ended(capped.event, -1)).version == released.version


async def test_a_backend_releases_whom_it_has_redeemed(capped: Room) -> None:
    (held,) = await let_in(capped)
    await capped.line.redeem(capped.event, held.ticket, held.entered, "aa01")
    assert await capped.line.release(capped.event, [held.ticket]) == 1
    assert await code(capped, held.ticket) == EnterCode.ALREADY_REDEEMED
    # A retry is answered as before.
    redeemed = await capped.line.redeem(capped.event, held.ticket, held.entered, "aa01")
    assert redeemed.code == RedeemCode.REDEEMED
    assert await renew(capped, held) == []
    capped.clock.advance(3)
    assert len(await let_in(capped, 4)) == 3


@pytest.mark.parametrize("redeemed", [False, True])
async def test_leave_releases_whoever_was_let_in(capped: Room, redeemed: bool) -> None:
    (held,) = await let_in(capped)
    if redeemed:
        await capped.line.redeem(capped.event, held.ticket, held.entered)
    assert await capped.leave(held.ticket) == (not redeemed)
    assert await renew(capped, held) == []
    assert (await capped.line.ended(capped.event, -1)).tickets == {held.ticket}
    capped.clock.advance(3)
    assert len(await let_in(capped, 4)) == 3


async def test_leave_of_somebody_in_line_releases_nothing(capped: Room) -> None:
    await capped.leave(*await capped.join(2), 12)
    assert (await capped.line.ended(capped.event, 0)).tickets == set()


async def test_a_process_that_knows_the_version_is_told_no_tickets(room: Room) -> None:
    first, second, third = await let_in(room, 3)
    await room.line.release(room.event, [first.ticket])
    known = await room.line.ended(room.event, -1)
    assert known.tickets == {first.ticket}
    assert known.session_clock == room.now
    assert (await room.line.ended(room.event, known.version)).tickets is None
    await room.line.release(room.event, [second.ticket])
    news = await room.line.ended(room.event, known.version)
    assert (news.tickets, news.version > known.version) == ({first.ticket, second.ticket}, True)
    # As many as before, but not the same.
    room.clock.advance(TTL + SLACK)
    await room.line.release(room.event, [third.ticket])
    assert (await room.line.ended(room.event, news.version)).tickets == {third.ticket}


async def test_a_version_never_comes_back_even_if_the_state_is_lost(room: Room) -> None:
    held = await let_in(room, 4)
    versions = []
    for one in held:
        await room.line.release(room.event, [one.ticket])
        versions.append((await room.line.ended(room.event, -1)).version)
        await room.redis.delete(room.keys.state)
        room.clock.advance(1)
    assert sorted(set(versions)) == versions


async def test_no_grace_revives_what_was_released(capped: Room) -> None:
    (held,) = await renew(capped, *await let_in(capped))
    await capped.line.release(capped.event, [held.ticket])
    # Sessions are held, and the pass's own time passes.
    for _ in range(8):
        capped.clock.advance(60)
        await capped.poll(grace=True)
        assert await renew(capped, held, grace=True) == []
    # Its slot waited for no grace to end.
    assert await inside(capped) == 0


async def test_more_are_released_than_are_read_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.line.line.RELEASED_CHUNK", 3)
    held = await let_in(room, 10)
    await room.line.release(room.event, [one.ticket for one in held])
    assert (await room.line.ended(room.event, -1)).tickets == {one.ticket for one in held}


# What is lost


async def test_while_sessions_are_lost_nobody_is_let_in_until_renewals_have_put_them_back(capped: Room) -> None:
    held = await renew(capped, *await let_in(capped, 3))
    await capped.redis.delete(capped.keys.sessions)
    (ticket,) = await capped.join()
    for one in held:
        assert await code(capped, ticket) == EnterCode.NOT_READY
        capped.clock.advance(1)
        assert len(await renew(capped, one)) == 1
    await capped.line.release(capped.event, [held[0].ticket])
    capped.clock.advance(3)
    assert await code(capped, ticket) == EnterCode.GRANTED
    assert await inside(capped) == 3


async def test_while_sessions_are_lost_nobody_is_let_in_until_all_of_them_have_ended(capped: Room) -> None:
    active, *_ = await renew(capped, *await let_in(capped, 3))
    capped.clock.advance(10)
    await capped.redis.delete(capped.keys.sessions)
    (ticket,) = await capped.join()
    for _ in range(4):
        # Renewals meanwhile do not put it off.
        (active,) = await renew(capped, active)
        capped.clock.advance((TTL + SLACK - 10) / 4 - 0.001)
        assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(0.004)
    assert await code(capped, ticket) == EnterCode.GRANTED
    assert await inside(capped) == 2
    assert await capped.admit(*await capped.join(2)) != []
    assert await inside(capped) == 3


async def test_sessions_that_are_lost_and_restored_are_as_they_were(capped: Room) -> None:
    held = await let_in(capped, 2)
    await capped.redis.rename(capped.keys.sessions, capped.keys.sessions + "-kept")
    tickets = await capped.join(2)
    assert await capped.admit(*tickets) == []
    await capped.redis.rename(capped.keys.sessions + "-kept", capped.keys.sessions)
    assert await capped.admit(*tickets) == tickets[:1]
    assert len(await renew(capped, *held)) == 2


async def test_after_the_loss_of_state_nobody_is_let_in_until_every_pass_has_run_out(capped: Room) -> None:
    held = await renew(capped, *await let_in(capped, 3))
    await capped.redis.delete(capped.keys.state, capped.keys.sessions)
    (ticket,) = await capped.join()
    assert await code(capped, ticket) == EnterCode.NOT_READY
    assert len(await renew(capped, *held)) == 3
    capped.clock.advance(TTL + SLACK - 0.001)
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(0.001)
    await capped.poll(ticket)
    assert await code(capped, ticket) == EnterCode.GRANTED


async def test_without_a_cap_the_loss_of_sessions_stops_nobody(room: Room) -> None:
    held = await let_in(room, 3)
    await room.redis.delete(room.keys.sessions)
    assert len(await let_in(room, 3)) == 3
    assert len(await renew(room, *held)) == 3


async def test_a_pass_that_redis_no_longer_knows_puts_its_session_back(capped: Room) -> None:
    (held,) = await let_in(capped)
    await capped.redis.unlink(*(key for key in capped.keys if key != capped.keys.config))
    assert len(await renew(capped, held)) == 1
    # Others may be out there: there was nothing to compare with.
    assert await let_in(capped, 3) == []
    capped.clock.advance(TTL + SLACK)
    assert len(await let_in(capped, 3)) == 3


@pytest.mark.parametrize("ask", ["enter", "redeem"])
async def test_who_was_let_in_and_lost_keeps_their_reservation(capped: Room, ask: str) -> None:
    (held,) = await let_in(capped)
    await capped.redis.delete(capped.keys.sessions)
    if ask == "enter":
        assert await code(capped, held.ticket) == EnterCode.GRANTED
    else:
        assert (await capped.line.redeem(capped.event, held.ticket, held.entered)).code == RedeemCode.REDEEMED
    assert await inside(capped) == 1
    assert len(await let_in(capped, 3)) == 2


async def test_a_clock_that_jumps_back_revives_no_pass_that_was_waited_for(capped: Room) -> None:
    held = await let_in(capped, 3)
    await capped.redis.delete(capped.keys.sessions)
    (ticket,) = await capped.join()
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(PASS + SLACK)
    assert (await capped.poll(ticket))[0].code == PollCode.READY
    capped.clock.advance(-20)
    assert await renew(capped, *held) == []


@pytest.mark.parametrize("found", [True, False])
async def test_a_session_that_was_put_back_lasts_as_long_as_any_of_its_passes(capped: Room, found: bool) -> None:
    first, *_ = await let_in(capped, 2)
    (longer,) = await renew(capped, first)
    await capped.line.configure(capped.event, {"session_ttl": "5000"})
    (shorter,) = await renew(capped, longer)
    if found:
        await capped.redis.delete(capped.keys.sessions)
        await renew(capped, shorter)
    else:
        # A replica that was behind took over: nobody knows what it lacks.
        await capped.redis.zrem(capped.keys.sessions, longer.ticket)
        await capped.redis.hincrby(capped.keys.state, "active", -1)  # type: ignore[misc] # redis-py
        await renew(capped, longer)
    assert (await ends(capped))[longer.ticket] == longer.until + SLACK * 1000 - capped.now


async def test_sessions_that_were_put_back_may_be_lost_again(capped: Room) -> None:
    held = await renew(capped, *await let_in(capped, 3))
    await capped.redis.delete(capped.keys.sessions)
    capped.clock.advance(TTL + SLACK - 1)
    (again,) = await renew(capped, held[0]._replace(until=capped.now + 1))
    await capped.redis.delete(capped.keys.sessions)
    (ticket,) = await capped.join()
    capped.clock.advance(1)
    # The others are outside by now.
    assert await code(capped, ticket) == EnterCode.NOT_READY
    assert len(await renew(capped, again)) == 1
    capped.clock.advance(TTL - 1)
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(SLACK)
    assert (await capped.poll(ticket))[0].code == PollCode.READY


async def test_while_sessions_are_lost_nobody_whose_slot_was_given_away_is_let_in_again(capped: Room) -> None:
    first, *_ = await let_in(capped, 3)
    capped.clock.advance(PASS + SLACK)
    await let_in(capped, 3)
    await capped.redis.delete(capped.keys.sessions)
    assert await code(capped, first.ticket) == EnterCode.NOT_READY


async def test_what_was_released_is_told_after_the_loss_of_state_too(capped: Room) -> None:
    (held,) = await let_in(capped)
    known = await capped.line.ended(capped.event, -1)
    await capped.line.release(capped.event, [held.ticket])
    await capped.redis.delete(capped.keys.state)
    assert (await capped.line.ended(capped.event, known.version)).tickets == {held.ticket}


# Grace


async def test_an_outage_of_the_systems_own_throws_nobody_out(capped: Room) -> None:
    held = await renew(capped, *await let_in(capped, 3))
    (ticket,) = await capped.join()
    capped.clock.advance(TTL + 260)
    await capped.poll(ticket, grace=True)
    # It holds for all, also for processes that noticed nothing.
    assert await code(capped, ticket) == EnterCode.NOT_READY
    capped.clock.advance(READY - 1)
    await capped.reap()
    assert await inside(capped) == 3
    assert len(await renew(capped, held[0])) == 1
    capped.clock.advance(1)
    assert await code(capped, ticket) == EnterCode.GRANTED
    assert await renew(capped, *held[1:]) == []


async def test_a_renewal_in_grace_revives_who_was_not_taken_out(room: Room) -> None:
    held = await renew(room, *await let_in(room, 2))
    room.clock.advance(TTL + 60)
    assert await renew(room, held[0]) == []
    assert len(await renew(room, held[0], grace=True)) == 1
    assert len(await renew(room, held[1])) == 1


async def test_a_clock_that_jumps_back_revives_no_pass(capped: Room) -> None:
    (idle, *_) = await let_in(capped, 3)
    capped.clock.advance(PASS + SLACK)
    await let_in(capped, 3)
    capped.clock.advance(-60)
    assert await renew(capped, idle) == []
    (ticket,) = await capped.join()
    assert await code(capped, ticket) == EnterCode.NOT_READY
    # Nor in a process that starts now and sees only the clock.
    assert (await capped.line.ended(capped.event, 0)).session_clock == capped.now + 60_000
    assert (await capped.line.renew(capped.event, [idle])).now == capped.now + 60_000


async def test_whoever_comes_in_after_the_clock_jumped_back_has_a_good_pass(room: Room) -> None:
    await room.line.configure(room.event, {"session_limit": "600000"})
    await let_in(room)
    room.clock.advance(-3600)
    (held,) = await let_in(room)
    assert held.until == room.now + 3_600_000 + PASS * 1000
    assert len(await renew(room, held)) == 1


# The door


async def test_while_it_is_full_the_right_to_come_in_does_not_run_out(capped: Room) -> None:
    tickets = await capped.join(4)
    await capped.poll(*tickets)
    held = passes(tickets[:3], await capped.enter(*tickets[:3]))
    # Hidden tabs, which wake once a minute and never find an opening.
    for _ in range(12):
        held = await renew(capped, *held)
        await capped.sweep(60, tickets[3], poll_every=60)
    assert (await capped.totals())["expired"] == 0
    await capped.line.release(capped.event, [held[0].ticket])
    await capped.sweep(65, tickets[3], poll_every=60)
    assert await code(capped, tickets[3]) == EnterCode.GRANTED


async def test_nor_does_it_where_every_sweep_finds_an_opening_that_others_take(capped: Room) -> None:
    await capped.line.configure(capped.event, {"max_active": "1"})
    hidden, *others = await capped.join(20)
    await capped.poll(hidden)
    for i, other in enumerate(others):
        capped.clock.advance(20)
        await capped.poll(*others[i:])
        assert await code(capped, other) == EnterCode.GRANTED
        # Whenever they wake it is full.
        await capped.poll(hidden)
        await capped.line.release(capped.event, [other])
        capped.clock.advance(3)
        await capped.poll(*others[i + 1 :])
        assert (await capped.reap()).expired == 0
    assert await code(capped, hidden) == EnterCode.GRANTED


async def test_those_who_never_enter_do_not_stop_the_line(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=10, admit_burst=40)
    await room.line.configure(room.event, {"max_active": "5", "session_ttl": "20000"})
    hoarders, faithful = await room.join(20), await room.join(20)
    came_in: list[int] = []
    for _ in range(90):
        room.clock.advance(2)
        left = [ticket for ticket in faithful if ticket not in came_in]
        await room.poll(*hoarders, *left)
        if left:
            came_in += await room.admit(*left)
        assert await inside(room) <= 5
    assert sorted(came_in) == faithful


@pytest.mark.parametrize("many", [100, 250])
async def test_at_most_a_hundred_sessions_are_pruned_in_one_call(room: Room, many: int) -> None:
    await room.line.configure(room.event, {"max_active": str(many)})
    for _ in range(many // 50):
        await let_in(room, 50)
    room.clock.advance(PASS + SLACK)
    counts = []
    for _ in range(4):
        await room.poll()
        counts.append(await room.redis.zcard(room.keys.sessions))
    assert counts == [max(0, many - 100 * n) for n in (1, 2, 3, 4)]


async def test_the_sweep_prunes_sessions_of_an_event_without_a_cap(room: Room) -> None:
    for _ in range(5):
        await let_in(room, 50)
    await room.sweep(PASS)
    room.clock.advance(SLACK)
    mores = []
    while (reaped := await room.reap()).more:
        mores.append(await room.redis.zcard(room.keys.sessions))
    assert (mores, reaped.more, await room.redis.exists(room.keys.sessions)) == ([150, 50], False, 0)


async def test_an_event_with_somebody_inside_is_not_forgotten(make_room: MakeRoom) -> None:
    room = make_room(line_ttl=60)
    await room.line.configure(room.event, {"declared": "1", "session_ttl": "7200000"})
    (held,) = await renew(room, *await let_in(room))
    await room.sweep(LIFE + PASS + 3600)
    assert not await room.redis.exists(room.keys.admitted)
    assert len(await renew(room, held)) == 1
    await room.line.release(room.event, [held.ticket])
    assert await room.redis.exists(room.keys.stream)
    await room.sweep(7190)
    assert (await room.line.ended(room.event, -1)).tickets == {held.ticket}
    await room.sweep(120)
    # Its log is there as long as the event is.
    assert not await room.redis.exists(room.keys.stream, room.keys.sessions, room.keys.ended)


async def test_standing_keeps_its_seven_fields_for_processes_of_an_older_version(capped: Room) -> None:
    (ticket,) = await capped.join()
    reply = await capped.line._step("poll", capped.event, 0, ticket)
    assert len(reply[0]) == 7


async def test_under_a_full_cap_a_promised_wait_goes_by_how_fast_sessions_end(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=10, admit_burst=40)
    await room.line.configure(room.event, {"max_active": "20", "session_ttl": "100000"})
    await let_in(room, 20)
    tickets = await room.join(200)
    # However fast people are called.
    await room.poll(*tickets)
    assert (await room.standing()).eta_rate == pytest.approx(0.2)
    # While there are slots it is as fast as the bucket for those who get one.
    await room.line.configure(room.event, {"max_active": "120"})
    assert (await room.standing()).eta_rate == pytest.approx(200 / (100 / 10 + 100 / 1.2), rel=0.05)
    await room.line.configure(room.event, {"max_active": "220"})
    assert (await room.standing()).eta_rate >= 10


async def test_a_cap_of_nobody_promises_no_wait_at_all(capped: Room) -> None:
    await capped.join(3)
    await capped.line.configure(capped.event, {"max_active": "0"})
    assert (await capped.standing()).eta_rate == 0


# Walking in


async def test_who_finds_nobody_waiting_walks_in(capped: Room) -> None:
    walked = await capped.line.walk_in(capped.event, b"ulabel")
    assert walked is not None
    assert (walked.entered, walked.until) == (capped.now, capped.now + PASS * 1000)
    assert await ends(capped) == {walked.ticket: (PASS + SLACK) * 1000}
    assert (await capped.logged(), await capped.waiting()) == ({}, [])
    totals = await capped.totals()
    assert (totals["joined"], totals["admitted"]) == (1, 1)
    assert await capped.redis.zscore(capped.line.keys.events, capped.event) == capped.now
    redeemed = await capped.line.redeem(capped.event, walked.ticket, walked.entered)
    assert (redeemed.code, redeemed.who) == (RedeemCode.REDEEMED, b"ulabel")


async def test_at_most_as_many_walk_in_as_there_are_openings(capped: Room) -> None:
    walked = [await capped.line.walk_in(capped.event) for _ in range(5)]
    assert [one is not None for one in walked] == [True] * 3 + [False] * 2
    assert len({one.ticket for one in walked if one}) == 3
    capped.clock.advance(PASS + SLACK)
    assert await capped.line.walk_in(capped.event)


async def test_nobody_walks_in_past_those_who_wait_or_were_called(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0, admit_burst=2)
    await room.line.configure(room.event, {"declared": "1"})
    first, second = await room.join(2)
    assert await room.line.walk_in(room.event) is None
    await room.poll(first, second)
    assert await room.line.walk_in(room.event) is None
    # Nobody is in line, and one of two openings is free.
    await room.leave(second)
    assert await room.line.walk_in(room.event)
    assert await room.line.walk_in(room.event) is None
    assert await code(room, first) == EnterCode.GRANTED


async def lose_the_line(room: Room) -> None:
    await room.join(2)
    await room.redis.delete(room.keys.queue)


WAITS: dict[str, Callable[[Room], Awaitable[object]]] = {
    "paused": lambda room: room.line.configure(room.event, {"paused": "1"}),
    "damaged": lose_the_line,
    "full": lambda room: room.line.configure(room.event, {"max_active": "0"}),
    "undeclared": lambda room: room.redis.delete(room.keys.config),
}


@pytest.mark.parametrize("why", WAITS)
async def test_nobody_walks_into_an_event_that_lets_nobody_in(capped: Room, why: str) -> None:
    await WAITS[why](capped)
    assert await capped.line.walk_in(capped.event) is None
    assert not await capped.redis.exists(capped.keys.sessions)


async def test_a_verified_user_who_has_a_place_waits_for_it(capped: Room) -> None:
    (joined,) = await capped.enqueue(Join(b"", b"vann"))
    await capped.poll(joined.ticket)
    assert await capped.line.walk_in(capped.event, b"vann") is None
    assert await capped.line.walk_in(capped.event, b"vbob")


@pytest.mark.parametrize("walks", [True, False])
async def test_a_verified_users_new_session_ends_their_older_one(capped: Room, walks: bool) -> None:
    first, second = await ann_comes_in(capped, walks=False), await ann_comes_in(capped, walks=walks)
    assert await renew(capped, first, second) == [second._replace(until=capped.now + TTL * 1000)]
    assert await code(capped, first.ticket) == EnterCode.GONE
    # The older one's slot is free once every gate knows.
    capped.clock.advance(3)
    assert len(await let_in(capped, 3)) == 2


async def test_each_new_session_of_a_verified_user_ends_the_one_before(capped: Room) -> None:
    held = []
    for _ in range(3):
        held.append(await ann_comes_in(capped, walks=True))
        # The session before is pruned meanwhile.
        capped.clock.advance(4)
        await capped.poll(held[-1].ticket)
    assert await renew(capped, *held) == [held[-1]._replace(until=capped.now + TTL * 1000)]


async def ann_comes_in(room: Room, *, walks: bool) -> Renewal:
    if walks:
        walked = await room.line.walk_in(room.event, b"vann")
        assert walked is not None
        return Renewal(walked.ticket, walked.until, walked.entered)
    (joined,) = await room.enqueue(Join(b"", b"vann"))
    (held,) = passes([joined.ticket], await room.enter(joined.ticket))
    return held


async def test_whoever_was_released_and_comes_again_ends_nobodys_session(capped: Room) -> None:
    (other,) = await let_in(capped)
    for _ in range(3):
        walked = await capped.line.walk_in(capped.event, b"vann")
        assert walked is not None
        await capped.line.release(capped.event, [walked.ticket])
        capped.clock.advance(3)
        await capped.poll(other.ticket)
    assert await capped.fields(capped.keys.insiders) == {}
    assert len(await renew(capped, other)) == 1


async def test_the_ticket_of_somebody_who_walked_in_is_never_given_again(capped: Room) -> None:
    walked = await capped.line.walk_in(capped.event)
    assert walked
    await capped.redis.delete(capped.keys.state)
    capped.clock.advance(-10)
    (joined,) = await capped.enqueue(Join(b"", b""))
    assert (joined.code, joined.ticket > walked.ticket) == (JoinCode.NEW, True)


async def test_a_new_event_begins_with_somebody_who_walks_in(capped: Room) -> None:
    assert await capped.line.walk_in(capped.event)
    await capped.line.configure(capped.event, {"max_active": ""})
    assert (await capped.standing()).tokens == 499
    assert await capped.reap() == (await capped.reap())._replace(expired=0)
    assert (await capped.join())[0] > capped.now * 1000 - 1


# Settings


async def test_the_settings_of_a_room_are_those_of_a_declared_event(room: Room) -> None:
    assert await room.line.room(room.event) is None
    await room.line.configure(room.event, {"declared": "1"})
    ttl = (await room.line.describe(room.event)).session_ttl
    assert await room.line.room(room.event) == RoomRecord(ttl, None, b"{}", None, False)
    changes = {"session_ttl": "5000", "session_limit": "9000", "max_active": "0", "paused": "1"}
    await room.line.configure(room.event, {"room": '{"title":"대기"}', **changes})
    assert await room.line.room(room.event) == RoomRecord(5000, 9000, '{"title":"대기"}'.encode(), 0, True)
    await room.line.configure(room.event, {"session_limit": "", "max_active": "", "paused": "0"})
    assert await room.line.room(room.event) == RoomRecord(5000, None, '{"title":"대기"}'.encode(), None, False)
