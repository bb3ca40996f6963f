"""Cuts off the end of a Redis's append-only file, as a power cut does. SIGKILL does not: the system has the data."""

import asyncio
import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import Self

from shared.dev.redis_server import RedisServer

EVERY = 0.02
"""Seconds between two looks at the file."""


def append_only_file(server: RedisServer) -> Path:
    """The file that Redis appends to: a single one before Redis 7, from then on the newest in a folder."""
    folder = server.directory / "appendonlydir"
    return max(folder.glob("*.incr.aof")) if folder.is_dir() else server.directory / "appendonly.aof"


class Disk:
    """`async with Disk(server) as disk:` watches the file grow, and can cut off its end while Redis is down."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._looks: deque[tuple[float, int]] = deque(maxlen=round(60 / EVERY))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def lose(self, since: float) -> float:
        """Cuts off what was written since a monotonic time, or a little more. Returns until when the file is complete:
        everything that was answered by then is in it.
        """
        until, size = next(look for look in reversed(self._looks) if look[0] <= since)
        os.truncate(append_only_file(self._server), size)
        return until

    async def _watch(self) -> None:
        while True:
            # The time comes first, so that everything answered by then is in the file.
            now = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # before Redis 7 has made it
                self._looks.append((now, append_only_file(self._server).stat().st_size))
            await asyncio.sleep(EVERY)
