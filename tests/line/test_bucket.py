"""The token bucket: how many come in, and when."""

import asyncio
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.line.conftest import MakeRoom, Room

_events = count(1)


@pytest.fixture
def slow(make_room: MakeRoom) -> Room:
    """One that lets in two people a second, and ten at once."""
    return make_room(admit_rate=2, admit_burst=10)


async def tokens(room: Room) -> float:
    return (await room.standing()).tokens


async def spend_all(room: Room) -> None:
    """People come in until nobody can."""
    while admitted := await room.admit(*await room.join(30)):
        assert len(admitted) <= 30
    for ticket in await room.logged():
        await room.leave(ticket)
    assert await tokens(room) < 1


async def test_a_new_event_starts_full(slow: Room) -> None:
    tickets = await slow.join(15)
    assert await slow.admit(*tickets) == tickets[:10]
    assert await tokens(slow) == 0


async def test_the_bucket_fills_at_the_rate_up_to_the_burst(slow: Room) -> None:
    await spend_all(slow)
    slow.clock.advance(1.25)
    assert await tokens(slow) == 2.5
    slow.clock.advance(1000)
    assert await tokens(slow) == 10


@pytest.mark.parametrize(("rate", "burst", "effective"), [(50, 1, 200), (50, 0, 200), (50, 500, 500), (0, 7, 7)])
async def test_the_effective_burst_is_four_seconds_of_the_rate_at_least(
    make_room: MakeRoom, rate: int, burst: int, effective: int
) -> None:
    room = make_room(admit_rate=rate, admit_burst=burst)
    await room.join(1)
    assert (await room.line.describe(room.event)).burst == effective
    assert await tokens(room) == effective


async def test_looking_at_an_event_spends_and_gains_nothing(slow: Room) -> None:
    await spend_all(slow)
    for _ in range(100):
        slow.clock.advance(0.01)
        await slow.standing()
        await slow.poll(1)
    assert await tokens(slow) == pytest.approx(2, abs=1e-6)


async def test_a_tiny_rate_adds_up_over_many_calls(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=0.01, admit_burst=1)
    first, second = await room.join(2)
    assert await room.admit(first, second) == [first]
    for _ in range(99):
        room.clock.advance(1)
        assert await room.admit(second) == []
    room.clock.advance(1.5)
    assert await room.admit(second) == [second]


async def test_a_lost_state_starts_with_an_empty_bucket_and_fills_it(slow: Room) -> None:
    tickets = await slow.join(5)
    await slow.redis.delete(slow.keys.state)
    assert await slow.admit(*tickets) == []
    assert await slow.called() == []
    slow.clock.advance(1)
    assert await slow.admit(*tickets) == tickets[:2]


async def test_a_lost_state_of_an_event_that_is_empty_starts_with_an_empty_bucket(slow: Room) -> None:
    await slow.leave(*await slow.join(5))
    await slow.redis.delete(slow.keys.state)
    assert await slow.admit(*await slow.join(5)) == []


async def test_a_lost_state_beside_a_lost_log_starts_with_an_empty_bucket(slow: Room) -> None:
    tickets = await slow.join(5)
    await slow.redis.delete(slow.keys.state, slow.keys.stream)
    await slow.repair()
    assert not (await slow.standing()).damaged
    assert await slow.admit(*tickets) == []


@pytest.mark.parametrize("lost", ["last", "tokens", "refilled"])
async def test_a_state_that_lost_one_of_its_fields_starts_with_an_empty_bucket(slow: Room, lost: str) -> None:
    tickets = await slow.join(5)
    slow.clock.advance(-10)
    await slow.redis.execute_command("HDEL", slow.keys.state, lost)
    assert await slow.admit(*tickets) == []
    assert await slow.join(1) > tickets[-1:]


async def test_a_jump_back_of_the_clock_takes_no_tokens_and_the_bucket_goes_on_filling(slow: Room) -> None:
    await slow.admit(*await slow.join(5))
    slow.clock.advance(-3600)
    (ticket,) = await slow.join()
    await slow.poll(ticket)
    assert await tokens(slow) == 5
    slow.clock.advance(1)
    await slow.poll(ticket)
    assert await tokens(slow) == 7


async def test_a_new_rate_holds_from_now_on_and_gains_nothing_for_the_past(slow: Room) -> None:
    await spend_all(slow)
    slow.clock.advance(2)
    await slow.line.configure(slow.event, {"rate": "1000", "burst": "5000"})
    assert await tokens(slow) == 4
    slow.clock.advance(1)
    assert await tokens(slow) == 1004


async def test_a_lower_rate_takes_nothing_of_what_was_gained_before(slow: Room) -> None:
    await spend_all(slow)
    slow.clock.advance(2)
    await slow.line.configure(slow.event, {"rate": "0"})
    slow.clock.advance(100)
    assert await tokens(slow) == 4


async def test_a_higher_burst_is_filled_by_time_and_a_lower_one_cuts_at_once(slow: Room) -> None:
    await slow.join()
    await slow.line.configure(slow.event, {"burst": "100"})
    assert await tokens(slow) == 10
    slow.clock.advance(5)
    assert await tokens(slow) == 20
    await slow.line.configure(slow.event, {"burst": "8"})
    assert await tokens(slow) == 8


async def test_settings_given_before_the_first_join_fill_the_first_bucket(slow: Room) -> None:
    await slow.line.configure(slow.event, {"rate": "3", "burst": "12"})
    slow.clock.advance(60)
    tickets = await slow.join(20)
    assert await slow.admit(*tickets) == tickets[:12]


async def test_every_line_of_the_fleet_uses_an_events_own_settings(slow: Room, make_room: MakeRoom) -> None:
    other = make_room(admit_rate=999, admit_burst=9999)
    tickets = await slow.join(20)
    await slow.line.configure(slow.event, {"rate": "1", "burst": "5"})
    assert await other.admit(*tickets) == tickets[:5]


async def test_while_paused_the_bucket_fills_to_the_burst_and_no_further(slow: Room) -> None:
    await spend_all(slow)
    await slow.line.configure(slow.event, {"paused": "1"})
    slow.clock.advance(3600)
    tickets = await slow.join(20)
    assert await slow.admit(*tickets) == []
    await slow.line.configure(slow.event, {"paused": "0"})
    assert await slow.admit(*tickets) == tickets[:10]


async def test_concurrent_enters_never_spend_a_token_twice(make_room: MakeRoom) -> None:
    rooms = [make_room(admit_rate=2, admit_burst=10) for _ in range(4)]
    tickets = await rooms[0].join(40)
    admitted = await asyncio.gather(*(rooms[i % 4].admit(*tickets[i::8]) for i in range(8)))
    assert sorted(ticket for some in admitted for ticket in some) == tickets[:10]


_steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0.001, 0.1, 1, 3, 7, 30, 200, -2, -500]),
        st.sampled_from(["poll", "enter", "sweep", "join", "leave", "repair"]),
        st.integers(0, 2**16),
    ),
    min_size=5,
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.sampled_from([0.3, 1, 4]), burst=st.sampled_from([0, 3, 20]), steps=_steps)
async def test_admissions_never_exceed_the_effective_burst_and_the_rate(
    slow: Room, rate: float, burst: int, steps: list[tuple[float, str, int]]
) -> None:
    clock = slow.clock
    room = Room(slow.line, f"bucket-{next(_events)}", slow.redis, clock)
    await room.line.configure(room.event, {"rate": str(rate), "burst": str(burst)})
    people = await room.join(60)
    admitted, passed = set(), 0.0
    for seconds, what, seed in steps:
        clock.advance(seconds)
        passed += max(0.0, seconds)
        some = people[seed % 5 :: 1 + seed % 7]
        if what == "poll":
            await room.poll(*some)
        elif what == "enter":
            admitted.update(await room.admit(*some))
        elif what == "sweep":
            await room.reap()
        elif what == "join":
            people += await room.join(5)
        elif what == "leave":
            await room.leave(*people[seed % 5 :: 29])
        else:
            await room.redis.delete(room.keys.called)
            await room.repair()
        assert len(admitted) <= max(burst, 4 * rate) + rate * passed + 1e-6
