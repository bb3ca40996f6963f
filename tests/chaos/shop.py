"""A toy shop behind a gate: it tells at once who was there. It shares the loop of the crowd that visits it."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from shared.dev.redis_server import LOCALHOST

MARK: Final = "x-shop"
"""The header that shows that an answer is the shop's own."""
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nX-Shop: yes\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok"

Saw = Callable[[dict[str, str]], None]


class Shop:
    """`async with Shop(saw) as shop:` serves it on a free port. `saw` is told the headers of every request, with names
    in lower case.
    """

    def __init__(self, saw: Saw) -> None:
        self.port = 0
        self._saw = saw
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Visit(self._saw), LOCALHOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()


class _Visit(asyncio.Protocol):
    """One connection of a proxy, which sends one request after the other, with a Content-Length if it has a body."""

    def __init__(self, saw: Saw) -> None:
        self._saw = saw
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        pairs = (line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
        headers = {name.lower(): value for name, value in pairs}
        if len(rest) < int(headers.get("content-length", 0)):
            return
        self._received = b""
        self._saw(headers)
        assert self._transport is not None
        self._transport.write(_ANSWER)
