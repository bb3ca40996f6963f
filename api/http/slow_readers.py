"""Ends streams whose clients do not take what is sent: the servers would keep it for them without a limit."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from api.http.unsent import Peer, Unsent, cut, unsent

_log = structlog.get_logger(__name__)

MAX_UNSENT = 64 * 1024
"""Bytes that a client may be behind."""

_STUCK_S = 30.0
"""Seconds that one chunk may take, where the server does wait for its client."""

_LOOK_S = 10.0
_LAST_S = 1.0
"""Seconds for the last chunks to arrive when the process ends."""


class Reader:
    """A client that is sent a stream. `peer` is None if it is not known."""

    __slots__ = ("behind", "peer", "sending_since", "task")

    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer
        self.behind = 0
        """Bytes sent since all had arrived, when that was last looked at."""
        self.sending_since: float | None = None
        """Since when a chunk is being sent (s, monotonic)."""
        self.task: asyncio.Task[None] | None = None

    def is_slow(self, now: float) -> bool:
        """Whether it is too far behind."""
        stuck = self.sending_since is not None and now - self.sending_since > _STUCK_S
        return stuck or self.behind > MAX_UNSENT


class SlowReaders:
    """Knows every stream. `dropped` counts those that were ended here."""

    def __init__(self) -> None:
        self.dropped = 0
        self._readers: set[Reader] = set()
        self._leaving: set[Peer] = set()
        """Whose streams have ended, perhaps before all of them arrived."""

    @contextmanager
    def reading(self, peer: Peer | None) -> Iterator[Reader]:
        """Around a stream."""
        reader = Reader(peer)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            if reader.behind and peer is not None:
                self._leaving.add(peer)

    async def run(self) -> None:
        """Looks for slow readers until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._readers or self._leaving:
                await self._look()

    async def finish(self) -> None:
        """Ends the streams that are left, gives all clients a moment to take the rest, then closes their connections.

        The server would wait for them, and be killed for that with all that it has not handed over yet.
        """
        for reader in self._readers:
            if reader.task is not None:
                reader.task.cancel()
            if reader.peer is not None:
                self._leaving.add(reader.peer)
        deadline = time.monotonic() + _LAST_S
        while left := self._leaving & (await self._behind()).keys():
            if time.monotonic() > deadline:
                behind = await self._behind()
                await asyncio.to_thread(cut, [behind[peer] for peer in left & behind.keys()])
                return
            await asyncio.sleep(_LAST_S / 10)

    async def _look(self) -> None:
        behind, now, slow = await self._behind(), time.monotonic(), []
        self._leaving &= behind.keys()
        for reader in list(self._readers):
            if reader.peer not in behind:
                reader.behind = 0
            if reader.is_slow(now) and reader.task is not None:
                self.dropped += 1
                reader.task.cancel()
                slow.append(reader.peer)
        if slow:
            _log.info("clients that do not read are dropped", clients=len(slow))
            await asyncio.to_thread(cut, [behind[peer] for peer in slow if peer in behind])

    async def _behind(self) -> dict[Peer, Unsent]:
        return {one.peer: one for one in await asyncio.to_thread(unsent)}
