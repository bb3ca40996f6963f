"""The view of a terminal, drawn with rich."""

from collections import deque
from contextlib import AbstractContextManager
from typing import Final

from rich import live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from tests.crowd.ledger import Moment
from tests.crowd.view import number, speeds, wait

_BARS: Final = " ▁▂▃▄▅▆▇█"
_WIDTH: Final = 48
_LATE: Final = 0.1


class Live:
    """A table that is kept up to date."""

    def __init__(self, people: int) -> None:
        self._people = people
        self._live = live.Live(self._table(None, 0, 0), refresh_per_second=4)
        self._last: deque[Moment] = deque(maxlen=3)
        self._joins: deque[float] = deque(maxlen=_WIDTH)
        self._admissions: deque[float] = deque(maxlen=_WIDTH)

    def showing(self) -> AbstractContextManager[object]:
        """The terminal is rich's while the block runs."""
        return self._live

    def show(self, moment: Moment) -> None:
        """Draws it."""
        joins, admissions = speeds(self._last[0] if self._last else None, moment)
        self._last.append(moment)
        self._joins.append(joins)
        self._admissions.append(admissions)
        self._live.update(self._table(moment, joins, admissions))

    def _table(self, moment: Moment | None, joins: float, admissions: float) -> Panel:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", style="dim")
        grid.add_column(justify="right", min_width=8)
        grid.add_column(min_width=_WIDTH)
        if moment is not None:
            grid.add_row("came", f"{moment.came:,}", ProgressBar(self._people, moment.came, width=_WIDTH))
            grid.add_row("came in", f"{moment.admitted:,}", ProgressBar(self._people, moment.admitted, width=_WIDTH))
            grid.add_row("line", number(moment.line), "")
            grid.add_row("inside", number(moment.inside), "")
            grid.add_row("joins/s", f"{joins:.0f}", f"[cyan]{_sparks(self._joins)}")
            grid.add_row("admissions/s", f"{admissions:.0f}", f"[green]{_sparks(self._admissions)}")
            grid.add_row("wait", "", wait(moment))
            grid.add_row("errors", f"[red]{moment.errors:,}" if moment.errors else "0", "")
            late = f"the crowd's own loop is {moment.lag * 1000:.0f} ms late: the figures are the crowd's"
            grid.add_row("", "", f"[yellow]{late}" if moment.lag > _LATE else "")
        return Panel(grid, title=f"crowd, {moment.at if moment else 0:.0f} s", subtitle="Ctrl-C ends it", expand=False)


def _sparks(values: deque[float]) -> str:
    most = max(values, default=0) or 1
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values)
