"""Sends a StreamingResponse for as long as somebody receives it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from api.http.response import Chunks
from shared.telemetry import error_reports

_log = structlog.get_logger(__name__)


async def stream(
    chunks: Chunks,
    send: Callable[[bytes], Awaitable[None]],
    gone: Callable[[], Awaitable[None]],
    closed: type[Exception],
) -> bool:
    """Sends every chunk, then closes them. Returns whether all were sent.

    It stops early when the client is gone: `gone` returns then, or `send` raises `closed`; and when the task that sends
    is cancelled. Errors of the chunks are logged and reported.
    """
    sender, watcher = asyncio.create_task(_send_all(chunks, send)), asyncio.create_task(_wait(gone))
    try:
        await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        sent_all = sender.done()
    finally:
        watcher.cancel()
        sender.cancel()
        ended, _ = await asyncio.gather(sender, watcher, return_exceptions=True)
        await chunks.aclose()
    if isinstance(ended, closed | asyncio.CancelledError):
        return False
    if isinstance(ended, Exception):
        _log.error("a stream failed", exc_info=ended)
        error_reports.capture(ended)
        return False
    return sent_all


async def _send_all(chunks: Chunks, send: Callable[[bytes], Awaitable[None]]) -> None:
    async for chunk in chunks:
        await send(chunk)


async def _wait(gone: Callable[[], Awaitable[None]]) -> None:
    await gone()
