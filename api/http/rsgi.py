"""The adapter for RSGI, granian's own protocol, which answers in one call where ASGI needs two."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined] # it names no exports

from api.http.application import Application
from api.http.request import MAX_BODY, Request, too_large, unreadable_header
from api.http.response import Response
from api.http.slow_bodies import SlowBodies
from api.http.streaming import stream
from api.http.unsent import Peer, peer


class RsgiRequest(Request):
    """A request as RSGI has it. Granian names a header that is not ASCII, but hides its value."""

    __slots__ = ("_headers", "_protocol", "_scope")

    ends_early: ClassVar[type[Exception]] = ProtocolClosed

    def __init__(self, scope: Scope, protocol: HTTPProtocol, slow_bodies: SlowBodies) -> None:
        super().__init__(scope.method, scope.path, scope.query_string, slow_bodies)
        self._scope, self._protocol = scope, protocol
        # Its stub lacks get_all().
        self._headers: Any = scope.headers

    @property
    def peer(self) -> str | None:
        return self._scope.client or None

    @property
    def connection(self) -> Peer | None:
        host, _, port = (self._scope.client or "").rpartition(":")
        return peer(host.strip("[]"), int(port)) if port.isdecimal() else None

    def header(self, name: str) -> str | None:
        values: list[str] = self._headers.get_all(name)
        if values:
            return values[-1]
        if name in self._headers:
            raise unreadable_header(name)
        return None

    def header_values(self, name: str) -> list[str]:
        values: list[str] = self._headers.get_all(name)
        return values

    def _receive(self, length: int) -> Awaitable[bytes]:
        return self._protocol() if length >= 0 else self._receive_pieces()

    async def _receive_pieces(self) -> bytes:
        body = b""
        async for piece in self._protocol:
            body += piece
            if len(body) > MAX_BODY:
                raise too_large()
        return body


class Rsgi:
    """An application for granian."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._open = AsyncExitStack()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._open.enter_async_context(self._application.running()))

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._open.aclose())

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        application = self._application
        request = RsgiRequest(scope, protocol, application.slow_bodies)
        response = await application.respond(request)
        if isinstance(response, Response):
            protocol.response_bytes(response.status, list(response.headers), response.body)
        else:
            transport = protocol.response_stream(response.status, list(response.headers))
            # The stream ends when the transport is dropped, even after a failure: RSGI cannot mark a stream as broken.
            with application.slow_readers.reading(request.connection) as reader:
                await stream(response.chunks, transport.send_bytes, protocol.client_disconnect, ProtocolClosed, reader)
