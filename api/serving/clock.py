"""Redis's clock, as last reported to this process."""

import time


class RedisClock:
    """Keeps the offset between Redis's time and this process's monotonic clock; times come with every reply."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def sync(self, now: int) -> None:
        """Redis's time is `now` (ms)."""
        self._offset = now - time.monotonic() * 1000

    def now(self) -> int | None:
        """Redis's time in ms; None before the first reply."""
        return None if self._offset is None else int(time.monotonic() * 1000 + self._offset)
