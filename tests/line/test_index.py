"""The position index: exact at its milestones, and how fast the line moves."""

from math import exp

import pytest

from shared.line.line import MILESTONES
from shared.line.replies import Index
from tests.line.conftest import LIFE, MakeRoom, Room


async def published(room: Room) -> Index:
    """A new index, published now."""
    assert await room.line.publish_index(room.event)
    index = await room.line.index(room.event)
    assert index is not None
    return index


async def published_after(room: Room, seconds: float) -> Index:
    room.clock.advance(seconds)
    return await published(room)


@pytest.fixture
def steady(make_room: MakeRoom) -> Room:
    """One that lets in ten people a second, and a hundred at once."""
    return make_room(admit_rate=10, admit_burst=100)


async def come_in(room: Room) -> None:
    """As many people as may, and a hundred and more stay behind them."""
    await room.join(max(0, 200 - len(await room.waiting())))
    await room.poll(0)
    while await room.admit(*await room.called()):
        await room.poll(0)


async def flow(room: Room, seconds: int) -> Index:
    """People come in as fast as they may, with an index every 5 s, the last one returned."""
    for _ in range(seconds // 5):
        room.clock.advance(5)
        await come_in(room)
        await published(room)
    index = await room.line.index(room.event)
    assert index is not None
    return index


@pytest.mark.parametrize("people", [1, 2, 1023, 1024, 1025, 3000])
async def test_milestones_are_the_places_that_a_poll_would_tell(closed: Room, people: int) -> None:
    tickets = await closed.join(people)
    index = await published(closed)
    assert len(index.tickets) <= MILESTONES
    assert (index.tickets[0], index.tickets[-1]) == (tickets[0], tickets[-1])
    assert list(index.positions) == [tickets.index(ticket) + 1 for ticket in index.tickets]
    assert list(index.positions) == await closed.positions(*index.tickets)
    assert index.standing.waiting == people
    # A short line is in it whole.
    if people <= MILESTONES:
        assert list(index.tickets) == tickets


async def test_milestones_count_the_fresh_calls_before_the_line(steady: Room) -> None:
    tickets = await steady.join(100)
    await steady.poll(tickets[0])
    index = await published(steady)
    assert (index.tickets[0], index.positions[0]) == (tickets[64], 65)
    steady.clock.advance(6)
    assert (await published(steady)).positions[0] == 1


async def test_an_index_younger_than_a_second_is_kept(closed: Room) -> None:
    await closed.join(3)
    before = await published(closed)
    await closed.join(3)
    closed.clock.advance(0.999)
    assert not await closed.line.publish_index(closed.event)
    assert await closed.line.index(closed.event) == before
    closed.clock.advance(0.001)
    assert (await published(closed)).standing == before.standing._replace(now=closed.now, waiting=6)


async def test_an_index_from_before_a_jump_back_of_the_clock_is_replaced(closed: Room) -> None:
    await closed.join()
    await published(closed)
    closed.clock.advance(-100)
    assert (await published(closed)).standing.now == closed.now


async def test_an_event_that_never_was_has_no_index(room: Room) -> None:
    assert not await room.line.publish_index(room.event)
    assert await room.line.index(room.event) is None
    assert not await room.redis.exists(*room.keys)


async def test_an_empty_line_has_an_index_without_milestones(room: Room) -> None:
    await room.leave(*await room.join(3))
    index = await published(room)
    assert (index.standing.waiting, list(index.tickets), list(index.positions)) == (0, [], [])


async def test_before_anything_is_measured_the_rate_is_the_configured_one(steady: Room) -> None:
    (ticket,) = await steady.join()
    assert (await published(steady)).standing.eta_rate == 10
    assert (await steady.line.poll(steady.event, [ticket]))[0].eta_rate == 10


async def test_a_steady_flow_is_measured_as_what_it_is(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=10, admit_burst=100)
    await come_in(room)
    index = await flow(room, 100)
    assert index.averages == pytest.approx((10, 10, 10), rel=0.05)


async def test_a_flow_below_the_configured_rate_is_told(steady: Room) -> None:
    await come_in(steady)
    for _ in range(20):
        steady.clock.advance(20)
        # Three in 20 s take up their calls.
        await steady.admit(*(await steady.called())[:3])
        await steady.join(100)
        await steady.poll(0)
        await published(steady)
    assert (await published_after(steady, 1)).averages == pytest.approx((0.15, 0.15, 0.15), rel=0.1)


async def test_the_averages_over_1_5_and_15_minutes_follow_at_their_own_pace(steady: Room, make_room: MakeRoom) -> None:
    assert (await flow(steady, 900)).averages == pytest.approx((10, 10, 10), rel=0.1)
    # New settings of the whole fleet: what an operator changes for the event begins a new measurement.
    slower = make_room(admit_rate=2, admit_burst=20)
    await come_in(slower)
    index = await flow(slower, 60)
    one, five, fifteen = index.averages
    # A minute at 2 after a quarter of an hour at 10, as exponential averages have it.
    assert one == pytest.approx(2 + 8 * exp(-1), rel=0.1)
    assert five == pytest.approx(2 + 8 * exp(-1 / 5), rel=0.1)
    assert five < fifteen < 10.5
    # What was admitted at another rate says nothing about how long people will wait.
    assert index.standing.eta_rate == 2


@pytest.mark.parametrize("why", ["nobody waits", "the event is paused"])
async def test_time_in_which_nobody_could_come_in_says_nothing(steady: Room, why: str) -> None:
    before = (await flow(steady, 100)).averages
    if why == "nobody waits":
        await steady.leave(*await steady.logged())
    else:
        await steady.line.configure(steady.event, {"paused": "1"})
        before = (await published_after(steady, 5)).averages
    for _ in range(50):
        assert (await published_after(steady, 60)).averages == pytest.approx(before)


async def test_new_settings_begin_a_new_measurement(steady: Room) -> None:
    await flow(steady, 100)
    await steady.line.configure(steady.event, {"rate": "3"})
    index = await published_after(steady, 1)
    assert index.averages == (0, 0, 0)


async def test_head_speed_counts_calls_step_asides_and_expiries(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=1, admit_burst=30)
    await room.join(30)
    room.clock.advance(90)
    present = await room.join(15)
    assert (await room.standing()).head_speed == 1
    await room.poll(*present)
    assert (len(await room.absent()), len(await room.called())) == (30, 15)
    assert (await room.standing()).head_speed == pytest.approx(45 / 15)
    # Half of this window of 15 s and half of the one before are the last 15 s, and after that nothing is.
    room.clock.advance(22.5)
    assert (await room.standing()).head_speed == pytest.approx(45 / 15 / 2)
    room.clock.advance(7.5)
    assert (await room.standing()).head_speed == 1


async def test_head_speed_counts_the_expired(closed: Room) -> None:
    await closed.join(60)
    assert await closed.sweep(LIFE) == 60
    assert (await closed.standing()).head_speed == pytest.approx(60 / 15)
