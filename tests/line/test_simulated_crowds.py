"""Small crowds on a moved clock: nine of ten waits of more than 30 s last as long as was promised.

`python -m tests.load.promises` has many more, and larger ones.
"""

import random
from collections.abc import Iterator

import pytest

from shared.dev.redis_server import RedisServer
from tests.support.simulated_crowd import Change, Crowd, Inside, Outcome, Scenario

SMALL = Scenario("small", people=1000, within=10, rate=10, burst=40, vanish=0.1, hoard=0.1, leave=0.05)
IMPATIENT = Scenario("impatient", people=1500, within=10, rate=15, burst=60, hazard=0.004)
CAPPED = Scenario("capped", people=200, within=5, rate=5, burst=20, inside=Inside(50, 30, 30))


@pytest.fixture
def url() -> Iterator[str]:
    """A Redis of their own: a crowd begins with an empty one. The pauses between polls are the same in each run."""
    random.seed(5)
    with RedisServer() as server:
        yield server.url


async def outcome(scenario: Scenario, url: str) -> Outcome:
    found = await Crowd(scenario, url, 5).run()
    # Who vanishes, hoards, leaves or gives up is drawn by lot.
    assert len(found.admitted) > (0.7 if not scenario.hazard else 0.5) * scenario.people
    return found


@pytest.mark.parametrize(
    ("scenario", "width"), [(SMALL, 0.4), (IMPATIENT, 0.3), (CAPPED, 1.7)], ids=["small", "impatient", "capped"]
)
async def test_nine_of_ten_promises_are_kept(scenario: Scenario, width: float, url: str) -> None:
    ranges = list((await outcome(scenario, url)).ranges())
    assert len(ranges) > 300
    assert sum(one.kept for one in ranges) >= 0.9 * len(ranges)
    # A range from now to never would be kept, too.
    widths = sorted((high - low) * 2 / (high + low) for (_, _, low, high, _), _, _ in ranges)
    assert widths[len(widths) // 2] < width
    assert not any(one.rose for one in ranges)


async def test_a_promise_that_does_not_hold_has_a_reason(url: str) -> None:
    slower = Scenario("slower", people=400, within=5, rate=10, burst=40, changes=(Change(10, {"rate": "3"}),))
    found = await outcome(slower, url)
    before = [one for promised in found.promised.values() for one in promised if one.when < 10]
    after = [one for promised in found.promised.values() for one in promised if one.when > 10]
    assert {one.reason for one in before} == {""}
    assert "rate_changed" in {one.reason for one in after}
    longer = [
        later
        for promised in found.promised.values()
        for later in promised
        if later.when + later.wait > max(one.when + one.high for one in promised if one.when <= 10) and later.when < 100
    ]
    assert len(longer) > 100
    assert {one.reason for one in longer} == {"rate_changed"}
