"""Sends a StreamingResponse for as long as somebody receives it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from api.http.response import Chunks
from api.http.slow_readers import Reader
from shared.telemetry import error_reports

_log = structlog.get_logger(__name__)

Send = Callable[[bytes], Awaitable[None]]


async def stream(
    chunks: Chunks, send: Send, gone: Callable[[], Awaitable[None]], closed: type[Exception], reader: Reader
) -> bool:
    """Sends every chunk, then closes them. Returns whether all were sent.

    It stops early when the client is gone: `gone` returns then, or `send` raises `closed`; and when it is dropped as a
    slow reader. Errors of the chunks are logged and reported.
    """
    sender, watcher = asyncio.create_task(_send_all(chunks, send, reader)), asyncio.create_task(_wait(gone))
    reader.task = sender
    try:
        await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        sent_all = sender.done()
    finally:
        watcher.cancel()
        sender.cancel()
        ended, _ = await asyncio.gather(sender, watcher, return_exceptions=True)
        await chunks.aclose()
        # An error keeps the frame of its task alive, which must not keep itself alive: RSGI's transport is in it.
        reader.task = None
    if isinstance(ended, closed | asyncio.CancelledError):
        return False
    if isinstance(ended, Exception):
        _log.error("a stream failed", exc_info=ended)
        error_reports.capture(ended)
        return False
    return sent_all


async def _send_all(chunks: Chunks, send: Send, reader: Reader) -> None:
    async for chunk in chunks:
        reader.sending_since = time.monotonic()
        await send(chunk)
        reader.sending_since = None
        reader.behind += len(chunk)


async def _wait(gone: Callable[[], Awaitable[None]]) -> None:
    await gone()
