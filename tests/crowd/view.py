"""What is seen while it runs: plain lines; on a terminal a table that is kept up to date."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from tests.crowd.ledger import Moment

EVERY: Final = 5.0
"""Seconds between two plain lines."""


class View(Protocol):
    """Shows a moment, once a second."""

    def showing(self) -> AbstractContextManager[object]:
        """While the block runs."""

    def show(self, moment: Moment) -> None:
        """The newest."""


class Plain:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._before: Moment | None = None

    def showing(self) -> AbstractContextManager[object]:
        """Nothing has to be cleaned up."""
        return nullcontext()

    def show(self, moment: Moment) -> None:
        """Prints it, if it is time."""
        if self._before is not None and moment.at - self._before.at < EVERY:
            return
        joins, admissions = speeds(self._before, moment)
        self._before = moment
        print(
            f"{moment.at:5.0f} s  came {moment.came:,}, line {number(moment.line)}, inside {number(moment.inside)}; "
            f"joins {joins:.0f}/s, admissions {admissions:.0f}/s; wait {wait(moment)}; errors {moment.errors:,}",
            flush=True,
        )


def view(people: int) -> View:
    """The one for this terminal, or for none."""
    if not sys.stdout.isatty():
        return Plain()
    # Only "make crowd" installs what draws it.
    from tests.crowd.live_view import Live

    return Live(people)


def speeds(before: Moment | None, now: Moment) -> tuple[float, float]:
    """Joins and admissions per second since then."""
    if before is None or now.at <= before.at:
        return 0.0, 0.0
    seconds = now.at - before.at
    return (now.joined - before.joined) / seconds, (now.admitted - before.admitted) / seconds


def wait(moment: Moment) -> str:
    """Promised to who came last, and served to who came in lately."""
    promised = "-" if moment.promised is None else f"{moment.promised:.0f} s"
    if moment.low is not None and moment.high is not None:
        promised = f"{moment.low:.0f}-{moment.high:.0f} s"
    return f"{promised} promised, {'-' if moment.served is None else f'{moment.served:.0f} s'} served"


def number(value: int | None) -> str:
    """A number, or that it is not known."""
    return "?" if value is None else f"{value:,}"
