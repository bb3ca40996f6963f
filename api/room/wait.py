"""How long somebody waits, as a range that people can read. assets/room.js does the same between two answers."""

import math
from typing import Literal, NamedTuple

_MOST_MINUTES = 180
_MOST_HOURS = 48

Unit = Literal["minutes", "hours", "days"]


class Wait(NamedTuple):
    """From `low` to `high` of a unit. Of a range that begins near 0, or is very wide, `low` is 0: less than `high`."""

    unit: Unit
    low: int
    high: int


def rounded(low_s: float, high_s: float) -> Wait:
    """A wait in whole units, the coarser the longer it is. It never promises more than the range in seconds does."""
    low, high = low_s / 60, high_s / 60
    if high <= 1:
        return Wait("minutes", 0, 1)
    if high <= _MOST_MINUTES:
        step = 1 if high < 20 else 5 if high < 60 else 10
        return Wait("minutes", math.floor(low / step) * step, math.ceil(high / step) * step)
    if high <= _MOST_HOURS * 60:
        return Wait("hours", math.floor(low / 60), math.ceil(high / 60))
    return Wait("days", math.floor(low / 1440), math.ceil(high / 1440))
