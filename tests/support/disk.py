"""The end of a Redis's append-only file, lost as a power cut loses it: SIGKILL leaves what the system was given."""

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
    """Where Redis appends: one file before Redis 7, a folder's newest from then on."""
    folder = server.directory / "appendonlydir"
    return max(folder.glob("*.incr.aof")) if folder.is_dir() else server.directory / "appendonly.aof"


class Disk:
    """`async with Disk(server) as disk:` looks how the file grows, and can have it lose its end while Redis is down."""

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
        """Takes away what was written since a monotonic time, or a little more; until when all is left.

        What was answered by then is in the file.
        """
        until, size = next(look for look in reversed(self._looks) if look[0] <= since)
        os.truncate(append_only_file(self._server), size)
        return until

    async def _watch(self) -> None:
        while True:
            # In this order: what is answered after the look is not counted on.
            now = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # before Redis 7 has made it
                self._looks.append((now, append_only_file(self._server).stat().st_size))
            await asyncio.sleep(EVERY)
