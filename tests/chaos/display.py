"""Progress while it runs: a line per scenario, kept up to date on a terminal."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.chaos.ledger import DOUBLE, LOST
from tests.chaos.outcome import Outcome
from tests.chaos.stage import Stage

_EVERY: Final = 0.5
_EVERY_PLAIN: Final = 10.0


class Display:
    """Writes to stderr, because the table at the end goes to stdout."""

    def __init__(self, scenarios: int) -> None:
        self._terminal = sys.stderr.isatty()
        self._scenarios, self._number = scenarios, 0

    @asynccontextmanager
    async def showing(self, stage: Stage, seconds: float) -> AsyncIterator[None]:
        """Shows the progress of a scenario while the block runs."""
        self._number += 1
        began = time.monotonic()
        task = asyncio.create_task(self._show(stage, seconds, began))
        try:
            yield
        finally:
            task.cancel()
            if self._terminal:
                sys.stderr.write("\r\x1b[K")

    def ended(self, outcome: Outcome) -> None:
        """Shows the result of a scenario."""
        text = outcome.skipped or (
            f"{outcome.faults:,} times; {outcome.load or 'no crowd'}; lost {outcome.lost}, double {outcome.double}, "
            f"worst gap {outcome.gap[0]:.1f} s"
        )
        self._write(f"{self._head(outcome)} {outcome.verdict:<8} {text}\n")
        for failure in outcome.failures:
            self._write(f"    ! {failure}\n")

    async def _show(self, stage: Stage, seconds: float, began: float) -> None:
        while True:
            await asyncio.sleep(_EVERY if self._terminal else _EVERY_PLAIN)
            gauge, crowd, ledger = stage.gauge, stage.crowd, stage.ledger
            text = stage.says
            if crowd:
                text = (
                    f"{stage.outcome.faults} times; {crowd.people:,} came, {crowd.present:,} are there; "
                    f"{gauge.requests:,} requests, {gauge.refused:,} refused, {gauge.waiting:,} wait; "
                    f"lost {ledger.count(LOST)}, double {ledger.count(DOUBLE)}"
                )
            text = f"{self._head(stage.outcome)} {time.monotonic() - began:4.0f} of about {seconds:.0f} s  {text}"
            self._write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")

    def _head(self, outcome: Outcome) -> str:
        return f"[{self._number} of {self._scenarios}] {outcome.name:<18}"

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
