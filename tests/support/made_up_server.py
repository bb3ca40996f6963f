"""A server whose answers a test makes up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

from shared.dev.redis_server import LOCALHOST

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Writes the answer to a request with this head. Connections stay open unless it closes the writer."""


@asynccontextmanager
async def made_up_server(answer: Answer) -> AsyncIterator[int]:
    """The port of a server that answers like this. Requests have no bodies."""
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        with closing(writer):
            try:
                while not writer.is_closing():
                    await answer(await reader.readuntil(b"\r\n\r\n"), writer)
            except (OSError, EOFError, asyncio.CancelledError):
                return
            finally:
                talking.discard(task)

    server = await asyncio.start_server(talk, LOCALHOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking)


def http(status: int, body: bytes = b"{}", *headers: str) -> bytes:
    """An answer; headers as they are written."""
    lines = (f"HTTP/1.1 {status} Made Up", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body
