"""The wait and its range: what holds for every standing and place."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract.schemas import MAX_ETA
from api.queue.forecast import FRONT_POLL_S, doubt, eta, eta_range
from shared.line.replies import MOST_SEEN, Standing
from tests.support.standings import MOVING

FULL = MOVING._replace(tokens=0.0, eta_rate=5.0, capped=True)


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """What the scripts can answer: without a cap the line never moves more slowly than the rate."""
    rate, capped, least_leave = draw(st.floats(1e-6, 1e6)), draw(st.booleans()), draw(st.floats(0, 0.16))
    by_rate = draw(st.floats(1e-6, 1e3)) if capped else draw(st.floats(1, 1e3))
    return MOVING._replace(
        tokens=draw(st.floats(-1e4, 1e4)),
        rate=rate,
        eta_rate=rate * by_rate,
        held=draw(st.booleans()),
        capped=capped,
        seen=draw(st.integers(0, MOST_SEEN)),
        gap=draw(st.integers(0, 1000)) if capped else 0,
        least_leave=least_leave,
        most_leave=draw(st.floats(least_leave, 0.16)),
    )


def told(position: int, standing: Standing) -> tuple[int, int]:
    between = eta_range(eta(position, standing), doubt(standing))
    assert between is not None
    return between


@given(st.integers(1, 10**7), standings())
def test_the_wait_is_in_its_range_and_the_range_within_bounds(position: int, standing: Standing) -> None:
    seconds = eta(position, standing)
    assert seconds is not None
    low, high = told(position, standing)
    assert 0 <= low <= seconds <= high <= MAX_ETA


@given(st.integers(1, 10**6), st.integers(0, 10**6), standings())
def test_nobody_is_told_of_an_earlier_end_than_somebody_in_front(front: int, more: int, standing: Standing) -> None:
    first, second = told(front, standing), told(front + more, standing)
    assert first[0] <= second[0]
    assert first[1] <= second[1]


@pytest.mark.parametrize("standing", [MOVING, MOVING._replace(eta_rate=80.0), FULL], ids=["all", "some", "full"])
def test_the_more_was_seen_the_narrower_is_the_range(standing: Standing) -> None:
    ranges = [told(5020, standing._replace(seen=seen)) for seen in (0, 10, 100, MOST_SEEN)]
    widths = [high - low for low, high in ranges]
    assert widths == sorted(set(widths), reverse=True)


@pytest.mark.parametrize("hazard", [0.0001, 0.003, 0.1])
def test_a_line_in_which_people_give_up_is_as_fast_as_one_that_is_counted_down(hazard: float) -> None:
    ahead, seconds, step = 5000.0, 0.0, 0.01
    while ahead > 0:
        ahead -= (MOVING.eta_rate + hazard * ahead) * step
        seconds += step
    sure = MOVING._replace(least_leave=hazard, most_leave=hazard)
    wait = eta(5020, sure)
    assert wait == pytest.approx(seconds + FRONT_POLL_S / 2, rel=0.01)
    low, high = told(5020, sure)
    assert low <= seconds <= high
    # Whether those in front go on giving up is not known: at most all wait who do now, and at least as many leave.
    earliest, latest = told(5020, sure._replace(least_leave=0.0))
    assert earliest == low
    assert latest == pytest.approx(told(5020, MOVING)[1], rel=0.1)


def test_who_gives_up_is_chance_and_nine_of_ten_lines_come_through_within_the_range() -> None:
    chance, hazard = random.Random(5), 0.01
    standing = MOVING._replace(tokens=0.0, rate=1.0, eta_rate=1.0, least_leave=hazard, most_leave=hazard)
    low, high = told(61, standing)
    waits = []
    for _ in range(500):
        seconds = 1
        for _ in range(60):
            # Somebody who has left by then takes no turn.
            seconds += chance.expovariate(hazard) > seconds
        waits.append(seconds)
    assert sum(low <= wait <= high for wait in waits) >= 0.9 * len(waits)
    assert high - low < 0.5 * high


def test_nobody_in_front_of_the_first_can_give_up() -> None:
    slow = MOVING._replace(tokens=0.0, rate=0.01, eta_rate=0.01)
    restless = slow._replace(least_leave=0.1, most_leave=0.1)
    assert eta(1, restless) == eta(1, slow)
    # Seen: a new line of one had a range from now on, and the page noticed nothing when the rate was lowered.
    assert told(1, slow._replace(most_leave=0.1)) == told(1, restless) == told(1, slow)
    # The second comes in as the first, a moment later.
    assert (eta(2, restless) or 0) - (eta(1, restless) or 0) < 0.3 / slow.eta_rate


@pytest.mark.parametrize("standing", [MOVING, FULL], ids=["moving", "full"])
def test_who_may_enter_need_not_wait(standing: Standing) -> None:
    assert told(20, standing._replace(tokens=20.0)) == (0, 0)


@pytest.mark.parametrize(
    "standing",
    [
        MOVING._replace(paused=True),
        MOVING._replace(damaged=True),
        MOVING._replace(rate=0.0, eta_rate=0.0),
        FULL._replace(eta_rate=0.0),
    ],
    ids=["paused", "damaged", "rate 0", "nobody may be inside"],
)
def test_while_nobody_is_let_in_there_is_no_range(standing: Standing) -> None:
    assert eta(100, standing) is None
    assert eta_range(None, doubt(standing)) is None


def test_where_everybody_enters_the_range_is_little_more_than_the_pause_between_two_polls() -> None:
    # 5000 people at 50 a second.
    low, high = told(5020, MOVING)
    assert 97 <= low <= 100 <= high <= 100 + 3 + FRONT_POLL_S + 1


def test_without_a_cap_the_rate_is_a_bound() -> None:
    for eta_rate in (50.0, 70.0, 200.0):
        for seen in (0, 10, MOST_SEEN):
            _, high = told(5020, MOVING._replace(eta_rate=eta_rate, seen=seen))
            assert high <= 1.03 * 100 + FRONT_POLL_S + 1


def test_before_anything_is_seen_a_third_of_the_bound_is_as_possible_as_all_of_it() -> None:
    low, high = told(5020, MOVING._replace(seen=0))
    assert low < 100 / 3
    assert high >= 100


def test_few_in_front_are_less_like_those_before_than_many() -> None:
    few, many = (told(people, MOVING._replace(tokens=0.0, rate=1.0, eta_rate=2.0)) for people in (100, 10_000))
    assert (few[1] - few[0]) / sum(few) > 2 * (many[1] - many[0]) / sum(many)


def test_under_a_cap_the_first_who_leave_say_little() -> None:
    unknown, known = told(500, FULL._replace(seen=0)), told(500, FULL)
    assert unknown[0] == 0
    assert unknown[1] > 400
    # Of 100 s.
    assert 70 <= known[0] <= 90
    assert 110 <= known[1] <= 130


def test_where_groups_leave_together_a_wait_may_end_a_group_earlier_or_later() -> None:
    even, in_groups = told(500, FULL), told(500, FULL._replace(gap=20))
    assert in_groups == (even[0] - 20, even[1] + 20)
