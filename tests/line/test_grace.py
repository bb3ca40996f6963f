"""Grace: silence that the system itself may have caused expires nobody, people's own silence is no reason for it."""

import pytest

from shared.line.replies import EnterCode, Entered, RedeemCode
from shared.settings import Settings
from tests.line.conftest import GAP_MS, LIFE, MakeRoom, Room
from workers.jobs.expiry import longest_gap


async def sweeps_until_expired(room: Room, *, most: float = 3 * LIFE) -> float:
    """Seconds of sweeps until somebody is expired."""
    seconds = 0.0
    while await room.sweep(5) == 0:
        seconds += 5
        assert seconds < most, "nobody is ever expired"
    return seconds + 5


async def test_without_an_interruption_there_is_no_grace(closed: Room) -> None:
    await closed.join()
    assert await sweeps_until_expired(closed) == LIFE


@pytest.mark.parametrize("gap", [GAP_MS / 1000 + 0.001, 100, 10 * LIFE])
async def test_after_a_gap_in_the_sweeps_nobody_is_expired_for_a_heartbeat_life(closed: Room, gap: float) -> None:
    await closed.join()
    await closed.sweep(10)
    closed.clock.advance(gap)
    assert (await closed.reap()).expired == 0
    # The visit that finds the gap begins it.
    assert await sweeps_until_expired(closed) >= LIFE


async def test_a_gap_within_bounds_is_no_interruption(closed: Room) -> None:
    await closed.join()
    for _ in range(9):
        closed.clock.advance(GAP_MS / 1000)
        assert (await closed.reap()).expired == 0
    closed.clock.advance(GAP_MS / 1000)
    assert (await closed.reap()).expired == 1


@pytest.mark.parametrize(("first_visit", "expired"), [(GAP_MS / 1000, True), (GAP_MS / 1000 + 1, False)])
async def test_an_events_first_join_counts_as_a_sweep(closed: Room, first_visit: float, expired: bool) -> None:
    await closed.join()
    closed.clock.advance(first_visit)
    await closed.reap()
    assert (await closed.sweep(LIFE - 5) == 1) == expired


async def test_sweeps_that_stood_still_for_longer_than_a_life_cost_nobody_their_place(closed: Room) -> None:
    tickets = await closed.join(300)
    await closed.sweep(5)
    closed.clock.advance(2 * LIFE)
    for _ in range(3):
        assert (await closed.reap()).expired == 0
    # They come back within a life, as people whose page could not reach us do.
    assert await closed.sweep(LIFE - 10) == 0
    await closed.poll(*tickets)
    assert await closed.sweep(LIFE - 20) == 0


async def test_an_interruption_of_the_fleet_gives_a_heartbeat_life(closed: Room) -> None:
    (ticket,) = await closed.join()
    await closed.sweep(LIFE - 5)
    interrupted = closed.now
    closed.clock.advance(5)
    assert (await closed.reap(interrupted)).expired == 0
    # Once it is known, it holds: not every sweep has to be told.
    assert await closed.sweep(LIFE - 10) == 0
    assert await closed.sweep(5) == 1
    assert ticket not in await closed.logged()


async def test_an_interruption_of_long_ago_gives_none(closed: Room) -> None:
    before = closed.now
    closed.clock.advance(1)
    await closed.join()
    await closed.sweep(LIFE - 5)
    closed.clock.advance(5)
    assert (await closed.reap(before)).expired == 1


async def test_an_interruption_in_the_future_gives_one_life_at_most(closed: Room) -> None:
    await closed.join()
    await closed.reap(closed.now + 10_000_000)
    assert await sweeps_until_expired(closed) == LIFE


async def test_a_clock_that_jumps_back_does_not_stretch_grace(closed: Room) -> None:
    closed.clock.advance(100_000)
    await closed.join()
    await closed.reap(closed.now)
    closed.clock.advance(-100_000)
    assert await sweeps_until_expired(closed) <= LIFE + 10


async def test_the_loss_of_state_gives_grace(closed: Room) -> None:
    await closed.join()
    await closed.sweep(LIFE - 5)
    await closed.redis.delete(closed.keys.state)
    assert await closed.sweep(LIFE) == 0
    assert await closed.sweep(10) == 1


async def test_calls_do_not_depart_during_grace(make_room: MakeRoom) -> None:
    room = make_room(admit_rate=1, admit_burst=4)
    tickets = await room.join(3)
    await room.poll(*tickets)
    await room.sweep(LIFE - 10, *tickets)
    await room.reap(room.now)
    assert await room.sweep(LIFE - 30, *tickets) == 0
    assert await room.admit(*tickets) == tickets


@pytest.fixture
async def let_in(room: Room) -> tuple[Room, int]:
    """Somebody with a reservation that they have not redeemed, and is about to lapse."""
    (ticket,) = await room.join()
    await room.enter(ticket)
    await room.sweep(20)
    return room, ticket


async def redeem(room: Room, ticket: int) -> None:
    """Asks for their reservation again, and redeems it once."""
    (entered,) = await room.enter(ticket)
    assert (entered.code, entered.ttl) == (EnterCode.GRANTED, 30_000)
    for code in (RedeemCode.REDEEMED, RedeemCode.ALREADY_REDEEMED):
        assert (await room.line.redeem(room.event, ticket, entered.issued)).code == code
    assert (await room.enter(ticket))[0].code == EnterCode.ALREADY_REDEEMED
    assert (await room.totals())["admitted"] == (await room.totals())["redeemed"] == 1


@pytest.mark.parametrize("first", ["an enter", "a sweep"])
async def test_those_who_were_let_in_may_come_in_after_an_outage_of_any_length(
    let_in: tuple[Room, int], first: str
) -> None:
    room, ticket = let_in
    issued = room.now - 20_000
    room.clock.advance(3 * LIFE)
    assert (await room.line.redeem(room.event, ticket, issued)).code == RedeemCode.EXPIRED
    if first == "a sweep":
        await room.reap()
    await redeem(room, ticket)


@pytest.mark.parametrize(("late", "code"), [(-0.001, EnterCode.GRANTED), (0, EnterCode.GONE)])
async def test_after_an_outage_their_right_lasts_as_long_again(
    let_in: tuple[Room, int], late: float, code: EnterCode
) -> None:
    room, ticket = let_in
    room.clock.advance(3 * LIFE)
    await room.reap()
    await room.sweep(LIFE - 5)
    room.clock.advance(5 + late)
    assert (await room.enter(ticket))[0].code == code


async def test_it_lasts_while_the_whole_ingress_is_gone_and_sweeps_go_on(let_in: tuple[Room, int]) -> None:
    room, ticket = let_in
    for _ in range(3):
        for _ in range(round(LIFE / 25)):
            room.clock.advance(25)
            await room.reap(room.now)
    await room.sweep(LIFE - 5)
    await redeem(room, ticket)


async def test_it_lasts_while_there_is_no_sweep(let_in: tuple[Room, int]) -> None:
    room, ticket = let_in
    for _ in range(10):
        room.clock.advance(LIFE / 3 + 0.001)
        assert (await room.enter(ticket))[0].code == EnterCode.GRANTED
    assert (await room.totals())["admitted"] == 1


@pytest.mark.parametrize(("grace", "code"), [(True, EnterCode.GRANTED), (False, EnterCode.GONE)])
async def test_an_ingress_that_was_cut_off_from_redis_lets_them_in_again(
    let_in: tuple[Room, int], grace: bool, code: EnterCode
) -> None:
    room, ticket = let_in
    await room.sweep(LIFE)
    ((entered),) = (await room.line.enter(room.event, [ticket], grace=grace))[1]
    assert entered.code == code
    if grace:
        # What it was given late lasts as long as was said.
        await room.sweep(25)
        assert (await room.line.redeem(room.event, ticket, entered.issued)).code == RedeemCode.REDEEMED
    await room.sweep(10)
    assert not await room.redis.exists(room.keys.admitted, room.keys.passes)


async def test_what_nobody_redeemed_is_pruned_once_grace_and_the_last_reservation_are_over(
    let_in: tuple[Room, int],
) -> None:
    room, ticket = let_in
    room.clock.advance(3 * LIFE)
    await room.reap()
    await room.sweep(LIFE - 5)
    (entered,) = await room.enter(ticket)
    await room.sweep(30)
    assert await room.enter(ticket) == [Entered(EnterCode.GONE, 0, 0, 0, 0, 0)]
    assert entered.code == EnterCode.GRANTED
    assert not await room.redis.exists(room.keys.admitted, room.keys.passes)


async def test_the_loss_of_state_costs_nobody_their_right_to_come_in(let_in: tuple[Room, int]) -> None:
    room, ticket = let_in
    await room.sweep(LIFE)
    await room.redis.delete(room.keys.state)
    assert (await room.enter(ticket))[0].code == EnterCode.GRANTED


async def test_one_person_who_polls_once_a_minute_does_not_stop_the_expiry_of_the_others(closed: Room) -> None:
    silent, (poller,) = await closed.join(200), await closed.join()
    process = (await closed.line.pulse("-one")).process

    async def sweep(seconds: int) -> int:
        expired = 0
        for second in range(5, seconds + 1, 5):
            closed.clock.advance(5)
            # The process lives; nobody but the one person talks to it.
            await closed.line.pulse(process)
            fleet = await closed.line.fleet(GAP_MS)
            if second % 60 == 0:
                await closed.poll(poller)
            expired += (await closed.reap(fleet.interrupted)).expired
        return expired

    assert await sweep(int(LIFE) - 5) == 0
    assert await sweep(5) == len(silent)
    assert await sweep(2 * int(LIFE)) == 0
    assert await closed.waiting() == [poller]


async def test_a_fleet_without_pulses_is_an_interruption(closed: Room) -> None:
    assert await closed.line.fleet(GAP_MS) == (closed.now, 0)
    closed.clock.advance(50)
    # It goes on until a process is there.
    assert await closed.line.fleet(GAP_MS) == (closed.now, 0)
    interrupted = closed.now
    closed.clock.advance(50)
    await closed.line.pulse("-one")
    assert await closed.line.fleet(GAP_MS) == (interrupted, 1)


async def test_processes_with_fresh_pulses_are_no_interruption(closed: Room) -> None:
    for name in ("-one", "-two"):
        await closed.line.pulse(name)
    closed.clock.advance(GAP_MS / 1000)
    assert await closed.line.fleet(GAP_MS) == (0, 2)


async def pulses(room: Room, seconds: float, *processes: str) -> None:
    for _ in range(round(seconds / 20)):
        room.clock.advance(20)
        for process in processes:
            await room.line.pulse(process)


@pytest.mark.parametrize(("age", "counts"), [(LIFE + 20, True), (LIFE - 20, False)])
async def test_the_end_of_one_process_without_deregistering_counts_if_it_was_older_than_a_life(
    closed: Room, age: float, counts: bool
) -> None:
    ends, stays = [(await closed.line.pulse(name)).process for name in ("-ends", "-stays")]
    await pulses(closed, age, ends, stays)
    await pulses(closed, 40, stays)
    noticed = closed.now if counts else 0
    assert await closed.line.fleet(GAP_MS) == (noticed, 1)
    # One interruption, then forgotten.
    await pulses(closed, 40, stays)
    assert await closed.line.fleet(GAP_MS) == (noticed, 1)


async def test_deregistering_is_no_interruption(closed: Room) -> None:
    ends, stays = [(await closed.line.pulse(name)).process for name in ("-ends", "-stays")]
    await pulses(closed, LIFE + 20, ends, stays)
    await closed.line.deregister(ends)
    await pulses(closed, 100, stays)
    assert await closed.line.fleet(GAP_MS) == (0, 1)


async def test_a_process_keeps_its_name_and_learns_of_its_gaps_and_of_others(closed: Room) -> None:
    first = await closed.line.pulse("-one")
    assert first == (closed.now, 0, False, f"{closed.now}-one")
    closed.clock.advance(3)
    assert await closed.line.pulse(first.process) == (closed.now, closed.now - 3000, True, first.process)
    # Not any more fresh: nobody was there.
    closed.clock.advance(3.001)
    assert (await closed.line.pulse("-two")).accompanied is False
    assert (await closed.line.pulse("-three")).accompanied is True


async def test_what_is_kept_of_an_interruption_is_no_company(closed: Room) -> None:
    await closed.line.fleet(GAP_MS)
    assert (await closed.line.pulse("-one")).accompanied is False


@pytest.mark.parametrize(
    ("heartbeat_ttl", "events", "gap"),
    [
        (300, 0, 30_000),  # a tenth of the life
        (300, 2_000, 30_000),
        (300, 4_000, 60_000),  # three full cycles of 5 s a thousand events
        (300, 9_999, 100_000),  # at most a third of the life
        (3, 0, 1_000),
    ],
)
def test_how_long_a_gap_is_an_interruption(heartbeat_ttl: float, events: int, gap: int) -> None:
    settings = Settings.model_validate({"heartbeat_ttl": heartbeat_ttl})
    assert longest_gap(settings, events) == gap
