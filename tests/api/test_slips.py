"""Why waits have become longer: what a process can tell of it."""

import pytest

from api.serving.slips import Slips
from shared.line.replies import Standing
from tests.support.standings import MOVING

NOW = MOVING.now
FULL = MOVING._replace(eta_rate=10.0, capped=True)
REMEMBERED = 150


def after(*seen: Standing) -> tuple[str, int]:
    """The reason a second after the last of these, one a second, and when something changed, in s after the first."""
    slips = Slips(seen[0], REMEMBERED)
    for second, standing in enumerate(seen):
        slips.observe(standing._replace(now=NOW + 1000 * second))
    return slips.reason(NOW + 1000 * len(seen)), max(0, slips.changed - NOW) // 1000


@pytest.mark.parametrize(
    ("seen", "reason", "changed"),
    [
        ((MOVING, MOVING), "", 0),
        ((MOVING, MOVING._replace(rate=25.0, eta_rate=25.0)), "rate_changed", 1),
        ((MOVING, MOVING._replace(rate=100.0, eta_rate=100.0)), "", 1),
        ((MOVING, MOVING._replace(paused=True)), "paused", 1),
        ((MOVING, MOVING._replace(paused=True), MOVING), "paused", 1),
        ((FULL, FULL._replace(eta_rate=9.0)), "", 0),
        ((FULL, FULL._replace(eta_rate=8.0)), "cap", 0),
        ((MOVING, FULL), "cap", 0),
        ((FULL._replace(waiting=0), FULL._replace(eta_rate=5.0)), "", 0),
        # More people enter than did before.
        ((MOVING._replace(eta_rate=100.0), MOVING), "", 0),
    ],
)
def test_a_slower_line_has_a_reason(seen: tuple[Standing, ...], reason: str, changed: int) -> None:
    assert after(*seen) == (reason, changed)


def test_it_slows_down_little_by_little() -> None:
    assert after(*(FULL._replace(eta_rate=10 - 0.25 * step) for step in range(20)))[0] == "cap"


def test_a_reason_is_told_for_as_long_as_somebody_may_not_have_heard_it() -> None:
    slips = Slips(MOVING, REMEMBERED)
    slips.observe(MOVING._replace(now=NOW + 1000, rate=25.0))
    assert slips.reason(NOW + 150_999) == "rate_changed"
    assert slips.reason(NOW + 151_000) == ""


def test_an_older_standing_changes_nothing() -> None:
    slips = Slips(MOVING, REMEMBERED)
    slips.observe(MOVING._replace(now=NOW - 1000, paused=True))
    assert slips.reason(NOW) == ""
    assert slips.changed == 0


def test_a_clock_that_jumps_back_hides_nothing() -> None:
    slips, back = Slips(MOVING, REMEMBERED), NOW - 3_600_000
    slips.observe(MOVING._replace(now=NOW + 1000, paused=True))
    slips.observe(MOVING._replace(now=back))
    assert slips.reason(back + 1000) == ""
    slips.observe(MOVING._replace(now=back + 1000, rate=25.0))
    assert (slips.reason(back + 2000), slips.changed) == ("rate_changed", back + 1000)
