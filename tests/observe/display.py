"""Progress while it runs: a line on stderr, kept up to date on a terminal."""

import contextlib
import sys
import time
from types import TracebackType
from typing import Final, Self

_EVERY_PLAIN: Final = 10.0


class Display(contextlib.AbstractContextManager["Display"]):
    """The table at the end goes to stdout."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said = 0.0
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("\r\x1b[K" if self._terminal else "")

    def step(self, text: str) -> None:
        """Something else begins."""
        self._write(f"\r\x1b[K{self._time()}  {text}" + ("" if self._terminal else "\n"))

    def progress(self, text: str) -> None:
        """Shows the progress; outside a terminal, every ten seconds."""
        if self._terminal:
            self._write(f"\r\x1b[K{self._time()}  {text}")
        elif time.monotonic() - self._said >= _EVERY_PLAIN:
            self._said = time.monotonic()
            self._write(f"{self._time()}  {text}\n")

    def _time(self) -> str:
        return f"{time.monotonic() - self._began:4.0f} s"

    def _write(self, text: str) -> None:
        sys.stderr.write(text if self._terminal else text.replace("\r\x1b[K", ""))
        sys.stderr.flush()
