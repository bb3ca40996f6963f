"""The wait that people are promised: the rate, and how many of those whose turn comes take it up."""

import pytest

from api.queue.forecast import eta
from shared.line.line import Renewal
from shared.line.replies import MOST_SEEN, PollCode, Standing
from tests.line.conftest import BATCH, LIFE, MakeRoom, Room
from tests.line.test_crowds import Crowd

RATE, BURST = 50, 500


async def stands(room: Room, ticket: int) -> tuple[Standing, float]:
    """How the event stands, and the wait that somebody is promised."""
    standing, [one] = await room.line.poll(room.event, [ticket])
    assert one.code == PollCode.WAITING
    wait = eta(one.position, standing)
    assert wait is not None
    return standing, wait


async def let_through(room: Room, seconds: int, every: int = 1) -> None:
    """The first of every so many who are called enters a second later, the others stay away."""
    seen: set[int] = set()
    for _ in range(seconds):
        await room.poll(0)
        called = [ticket for ticket in await room.called() if ticket not in seen]
        seen.update(called)
        room.clock.advance(1)
        for start in range(0, len(called), BATCH):
            await room.admit(*called[start : start + BATCH : every])


@pytest.fixture
def small(make_room: MakeRoom) -> Room:
    """One that lets in ten people a second, and forty at once."""
    return make_room(admit_rate=10, admit_burst=40)


@pytest.mark.parametrize("workers", [True, False])
async def test_a_burst_does_not_make_the_others_hope(small: Room, workers: bool) -> None:
    last = (await small.join(1000))[-1]
    for _ in range(5):
        await let_through(small, 1)
        if workers:
            await small.line.publish_index(small.event)
    standing, _ = await stands(small, last)
    # Eighty came in within five seconds, but only ten a second will.
    assert standing.eta_rate == 10
    assert not standing.held


@pytest.mark.parametrize("people", [100, 1000])
async def test_a_line_that_has_just_begun_is_none_that_many_leave(small: Room, people: int) -> None:
    standing, _ = await stands(small, (await small.join(people))[-1])
    # As if half a person had, in 500 person-seconds or a second of everybody's.
    assert standing.most_leave == pytest.approx(0.25 / max(500, standing.waiting), abs=1e-5)
    assert standing.least_leave == 0


async def test_who_gives_up_is_counted_by_the_time_that_people_waited(small: Room) -> None:
    tickets = await small.join(1000)
    await small.reap()
    for leaving in (tickets[900:], tickets[100:150]):
        small.clock.advance(20)
        await small.leave(*leaving)
    standing, wait = await stands(small, tickets[800])
    # Whoever leaves between two looks counts as if they had not waited since the first.
    assert standing.most_leave == pytest.approx(150 / (860 * 20 + 810 * 20), rel=0.15)
    # The hundred left at once, which says nothing of those who have waited for longer.
    assert standing.least_leave == pytest.approx(50 / (860 * 20 + 810 * 20), rel=0.2)
    # Those behind them will give up, too.
    [polled] = await small.poll(tickets[800])
    assert wait < (eta(polled.position, standing._replace(least_leave=0.0)) or 0)


async def test_the_quick_ones_of_the_last_calls_say_nothing_of_the_others(small: Room) -> None:
    await small.join(1000)
    await small.poll(0)
    called = await small.called()
    await small.admit(*called[:30])
    small.clock.advance(1)
    await small.poll(0)
    assert len(called) == 40
    assert (await small.standing()).seen == 0
    small.clock.advance(5)
    await small.poll(0)
    # Those of the burst, and of the ten a second later.
    assert (await small.standing()).seen == 50


@pytest.mark.parametrize("every", [2, 3])
async def test_the_fewer_take_up_their_turn_the_faster_it_goes(make_room: MakeRoom, every: int) -> None:
    room = make_room(admit_rate=10, admit_burst=200)
    last = (await room.join(2000))[-1]
    await let_through(room, 20, every)
    standing, _ = await stands(room, last)
    assert standing.eta_rate == pytest.approx(10 * every, rel=0.1)
    assert 300 < standing.seen <= MOST_SEEN
    assert not standing.held


async def test_a_full_bucket_bounds_how_fast_it_goes(small: Room) -> None:
    last = (await small.join(1000))[-1]
    await let_through(small, 20, 1000)
    standing, _ = await stands(small, last)
    # Nearly nobody enters, and forty calls at once are fresh for about 3 s each.
    assert standing.eta_rate == pytest.approx(40 / 3, rel=0.2)
    assert standing.held


async def test_those_who_stepped_aside_count_as_far_as_others_were_called(small: Room) -> None:
    silent = await small.join(300)
    small.clock.advance(90)
    last = (await small.join(500))[-1]
    await small.poll(last)
    assert await small.absent() == silent[:64]
    # A block of people who have gone says nothing of those behind it.
    assert (await small.standing()).eta_rate == 10
    for _ in range(5):
        await small.poll(last)
    assert (len(await small.absent()), len(await small.called())) == (300, 40)
    small.clock.advance(3)
    await small.admit(*await small.called())
    assert 10 <= (await small.standing()).eta_rate <= 20


async def test_a_new_rate_is_told_at_once(small: Room) -> None:
    last = (await small.join(1000))[-1]
    await let_through(small, 10, 2)
    before, _ = await stands(small, last)
    await small.line.configure(small.event, {"rate": "5"})
    after, _ = await stands(small, last)
    assert after.eta_rate == pytest.approx(before.eta_rate / 2, rel=0.1)


async def test_old_turns_are_forgotten(small: Room) -> None:
    last = (await small.join(3000))[-1]
    await let_through(small, 20, 3)
    assert (await stands(small, last))[0].eta_rate > 15
    await let_through(small, 60)
    assert (await stands(small, last))[0].eta_rate == pytest.approx(10, rel=0.1)


async def test_admissions_before_the_first_turn_that_was_counted_are_not(small: Room) -> None:
    tickets = await small.join(200)
    # As a process of an older version leaves it.
    await small.redis.execute_command("HSET", small.keys.state, "admitted", 5000)
    await let_through(small, 10, 2)
    assert (await stands(small, tickets[-1]))[0].eta_rate > 12


@pytest.mark.parametrize("stay_away", ["gone", "hoarders"])
async def test_promises_are_kept_though_many_stay_away(make_room: MakeRoom, stay_away: str) -> None:
    room = make_room(admit_rate=RATE, admit_burst=BURST)
    tickets = await room.join(3000)
    away = [ticket for ticket in tickets if ticket % 10 in {1, 4, 7}]
    crowd = Crowd(room, tickets, **{stay_away: away})
    await crowd.run(8)
    behind = [ticket for ticket in tickets[1500::100] if ticket not in away]
    promised = {ticket: crowd.seconds + (await stands(room, ticket))[1] for ticket in behind}
    await crowd.run(60)
    off = [abs(promised[t] - crowd.admitted[t]) / (crowd.admitted[t] - 8) for t in behind]
    assert sorted(off)[len(off) // 2] < 0.12
    assert max(off) < 0.35
    assert crowd.seconds < LIFE


@pytest.fixture
async def full(small: Room) -> tuple[Room, list[Renewal]]:
    """One in which 20 may be inside at once, and are; 180 wait. The passes of those inside."""
    await small.line.configure(small.event, {"max_active": "20", "session_ttl": "100000"})
    tickets = await small.join(200)
    await small.poll(*tickets)
    entered = await small.admit(*tickets)
    assert len(entered) == 20
    return small, [Renewal(ticket, small.now + 30_000, small.now) for ticket in entered]


async def stay(room: Room, passes: list[Renewal], seconds: int) -> None:
    """They stay inside."""
    for _ in range(seconds // 10):
        room.clock.advance(10)
        await room.line.renew(room.event, passes)


async def test_under_a_full_cap_the_longer_nobody_leaves_the_longer_the_wait(full: tuple[Room, list[Renewal]]) -> None:
    room, passes = full
    standing = await room.standing()
    assert standing.eta_rate == pytest.approx(20 / 100)
    assert standing.seen == 0
    await stay(room, passes, 300)
    # As if each stayed for another session_ttl, four more of them for nothing but that.
    standing = await room.standing()
    assert standing.eta_rate == pytest.approx(20 / ((20 * 300 + 24 * 100) / 24), rel=0.01)
    assert standing.gap == 300


async def test_under_a_full_cap_people_enter_as_fast_as_others_were_seen_to_leave(
    full: tuple[Room, list[Renewal]],
) -> None:
    room, passes = full
    await stay(room, passes, 30)
    await room.line.release(room.event, [one.ticket for one in passes])
    room.clock.advance(3)
    await room.poll(*await room.waiting())
    standing = await room.standing()
    # 20 of 60 whom it rests on have ended, but 33 s are less of two session TTLs.
    assert standing.seen == int(MOST_SEEN * 33 / 200 * (1 - 2 / 60**0.5))
    # 33 s, of as much as another session_ttl.
    assert standing.gap == 33 * 33 // (33 + 100)
    ending = 20 / ((20 * 33 + 4 * 100) / 24)
    assert standing.eta_rate == pytest.approx(180 / (20 / 10 + 160 / ending), rel=1e-5)
    room.clock.advance(60)
    assert (await room.standing()).seen == int(MOST_SEEN * 20 / 60 * (1 - 2 / 60**0.5))


async def test_under_a_cap_people_enter_as_fast_as_sessions_end(small: Room) -> None:
    await small.line.configure(small.event, {"max_active": "20", "session_ttl": "100000"})
    last = (await small.join(200))[-1]
    await small.poll(last)
    # The first 20 at the rate.
    assert (await small.standing()).eta_rate == pytest.approx(200 / (20 / 10 + 180 / 0.2), rel=1e-5)
    await small.line.configure(small.event, {"max_active": "10000"})
    assert (await small.standing()).eta_rate == 10
