"""The adapter for ASGI 3, which uvicorn, hypercorn and the tests use."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from api.http.application import Application
from api.http.request import MAX_BODY, EndsEarlyError, Request, too_large
from api.http.response import AnyResponse, Response, StreamingResponse
from api.http.slow_bodies import SlowBodies
from api.http.slow_readers import Reader
from api.http.streaming import stream
from api.http.unsent import Peer, peer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiRequest(Request):
    """A request as ASGI has it."""

    __slots__ = ("_asgi_receive", "_scope")

    def __init__(self, scope: Scope, receive: Receive, slow_bodies: SlowBodies) -> None:
        super().__init__(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), slow_bodies)
        self._scope, self._asgi_receive = scope, receive

    @property
    def peer(self) -> str | None:
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def connection(self) -> Peer | None:
        client = self._scope.get("client")
        # Granian's is a text.
        return peer(client[0], int(client[1])) if client else None

    def header(self, name: str) -> str | None:
        values = self.header_values(name)
        return values[-1] if values else None

    def header_values(self, name: str) -> list[str]:
        wanted = name.encode()
        return [str(value, "latin-1") for known, value in self._scope["headers"] if known == wanted]

    async def _receive(self, length: int) -> bytes:
        body: bytes = b""
        while True:
            message = await self._asgi_receive()
            if message["type"] == "http.disconnect":
                raise EndsEarlyError
            body += bytes(message.get("body", b""))
            if len(body) > MAX_BODY:
                raise too_large()
            # One more receive(), only to learn that there is no more, costs granian two thread switches.
            if len(body) == length or not message.get("more_body", False):
                return body


class Asgi:
    """An application for an ASGI server."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            application = self._application
            request = AsgiRequest(scope, receive, application.slow_bodies)
            response = await application.respond(request)
            if isinstance(response, Response):
                await _send(response, send)
            else:
                with application.slow_readers.reading(request.connection) as reader:
                    await _stream(response, receive, send, reader)
        elif scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self._application.running())
        except Exception as error:  # noqa: BLE001 - ASGI wants a message, not an exception
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _send(response: Response, send: Send) -> None:
    length = (b"content-length", b"%d" % len(response.body))
    await send({"type": "http.response.start", "status": response.status, "headers": [*_headers(response), length]})
    await send({"type": "http.response.body", "body": response.body})


async def _stream(response: StreamingResponse, receive: Receive, send: Send, reader: Reader) -> None:
    async def send_chunk(chunk: bytes) -> None:
        try:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except RuntimeError as error:
            # From uvloop, when the client has closed its connection.
            raise ConnectionResetError from error

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    await send({"type": "http.response.start", "status": response.status, "headers": _headers(response)})
    if await stream(response.chunks, send_chunk, gone, OSError, reader):
        await send({"type": "http.response.body", "body": b""})


def _headers(response: AnyResponse) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
