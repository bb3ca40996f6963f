"""Places by interpolation: the error is always less than the distance between two milestones."""

from array import array
from bisect import bisect_right
from math import ceil

from hypothesis import example, given
from hypothesis import strategies as st

from api.serving.position_cache import interpolate
from shared.line.line import MILESTONES, Line
from shared.line.replies import Index
from tests.support.line_state import fill
from tests.support.standings import MOVING

STANDING = MOVING._replace(waiting=1000)

# Crowds come in bursts: gaps between tickets range from one microsecond to days.
lines = st.lists(st.one_of(st.just(1), st.integers(1, 5), st.integers(1, 10**11)), min_size=1, max_size=400).map(
    lambda gaps: [1_700_000_000_000_000 + sum(gaps[: i + 1]) for i in range(len(gaps))]
)


def milestones(line: list[int], most: int, called: int = 0) -> Index:
    """The index of a line as the workers publish it."""
    step = max(1, ceil((len(line) - 1) / (most - 1)))
    ranks = [*range(0, len(line) - 1, step), len(line) - 1]
    return Index(
        STANDING,
        (0.0, 0.0, 0.0),
        array("q", [line[rank] for rank in ranks]),
        array("q", [called + r + 1 for r in ranks]),
    )


@given(lines, st.integers(2, 40), st.integers(0, 500))
@example([5], 2, 0)
@example([5, 6], 2, 3)
def test_everybody_in_line_is_placed_within_a_milestones_width(line: list[int], most: int, called: int) -> None:
    index = milestones(line, most, called)
    width = max(b - a for a, b in zip(index.positions, [*index.positions[1:], index.positions[-1] + 1], strict=True))
    for rank, ticket in enumerate(line):
        assert abs(interpolate(index, ticket) - (called + rank + 1)) < max(1, width)


@given(lines, st.integers(2, 40))
def test_nobody_is_placed_before_somebody_who_came_earlier(line: list[int], most: int) -> None:
    index = milestones(line, most)
    places = [interpolate(index, ticket) for ticket in line]
    assert places == sorted(places)
    assert places[0] == 1
    assert places[-1] == len(line)


@given(lines, st.integers(2, 40), st.data())
def test_somebody_who_is_not_in_the_index_is_placed_where_they_would_stand(
    line: list[int], most: int, data: st.DataObject
) -> None:
    index = milestones(line, most)
    ticket = data.draw(st.integers(line[0] - 10, line[-1] + 10))
    width = max(b - a for a, b in zip(index.positions, [*index.positions[1:], index.positions[-1] + 1], strict=True))
    exact = max(1, bisect_right(line, ticket))
    assert abs(interpolate(index, ticket) - exact) <= width


def test_around_the_milestones() -> None:
    index = Index(STANDING, (0.0, 0.0, 0.0), array("q", [100, 200, 300]), array("q", [11, 21, 41]))
    assert [interpolate(index, ticket) for ticket in (1, 100, 150, 200, 250, 300)] == [11, 11, 16, 21, 31, 41]
    assert interpolate(index, 301) == 42
    assert interpolate(index._replace(tickets=array("q"), positions=array("q")), 150) == 0


async def test_the_published_index_places_3000_people(line: Line, event: str) -> None:
    tickets = await fill(line, event, 3000)
    _, polled = await line.poll(event, tickets[:200])
    called = {ticket for ticket, one in zip(tickets, polled, strict=False) if one.code == 2}
    assert called
    assert await line.publish_index(event)
    index = await line.index(event)
    assert index is not None
    width = -(-3000 // (MILESTONES - 1))
    assert width * len(index.tickets) >= 3000 - len(called)
    assert len(index.tickets) <= MILESTONES
    off = [abs(interpolate(index, ticket) - place) for place, ticket in enumerate(tickets, 1) if ticket not in called]
    assert len(off) == 3000 - len(called)
    assert max(off) < width
