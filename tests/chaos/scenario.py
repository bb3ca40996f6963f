"""A scenario: one fault, done again and again to real processes while people come."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.chaos.stage import Stage


class SkippedError(Exception):
    """This scenario cannot be played here, with the reason."""


class Scenario(NamedTuple):
    """Its name, what is done, for how long (s), the function, and how many faults there are at least."""

    name: str
    fault: str
    seconds: float
    play: Callable[[Stage], Awaitable[None]]
    times: int = 0
