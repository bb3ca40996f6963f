"""A site behind the gate: a small reverse proxy in front of the api, and the pages that it protects."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any, Self

import httpx
import uvicorn

from shared.dev.redis_server import LOCALHOST

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INSIDE = "You are inside"
_HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length"}
_PAGE = """<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>{0}</title>
<h1>{0}</h1><a href="/checkout">on</a>"""


class Site(AbstractContextManager["Site"]):
    """Guards everything by one event, but `/open` and the room itself. Runs in a thread of its own."""

    def __init__(self, api_url: str, event: str) -> None:
        self.api_url, self._event = api_url, event
        self._socket = socket.socket()
        self._socket.bind((LOCALHOST, 0))
        self.url = f"http://{LOCALHOST}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        path = scope["raw_path"].decode()
        url = path + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        if path.startswith("/waiting-room/"):
            return await self._pass_on(scope["method"], url, headers, receive, send)
        if path == "/open":
            return await _page(send, 200, "Open to all")
        told = [(b"x-forwarded-uri", url.encode()), (b"x-forwarded-method", scope["method"].encode())]
        asked = await self._ask("GET", f"/api/v1/gate/{self._event}/forwarded/authorize", [*headers, *told], b"")
        if asked is None or asked.status_code != 200:
            return await _answer(send, asked)
        return await _page(
            send, 200, INSIDE, [(b"set-cookie", one.encode()) for one in asked.headers.get_list("set-cookie")]
        )

    async def _pass_on(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], receive: Receive, send: Send
    ) -> None:
        """The api's answer, piece by piece, until it ends or the browser hangs up."""
        body = await _body(receive)
        passing = asyncio.create_task(self._stream(method, url, headers, body, send))
        hung_up = asyncio.create_task(_hung_up(receive))
        await asyncio.wait({passing, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        for task in (passing, hung_up):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await passing

    async def _stream(self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes, send: Send) -> None:
        client, started = self._client(), False
        try:
            async with client, client.stream(method, url, headers=_passed(headers), content=body) as answer:
                kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
                started = True
                async for part in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except httpx.TransportError:
            if not started:
                return await _answer(send, None)
        return await send({"type": "http.response.body", "body": b""})

    async def _ask(
        self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> httpx.Response | None:
        """What the api answers; None if nobody does."""
        async with self._client() as client:
            try:
                return await client.request(method, url, headers=_passed(headers), content=body)
            except httpx.TransportError:
                return None

    def _client(self) -> httpx.AsyncClient:
        # As a proxy with one connection a request: none of them outlives the api.
        return httpx.AsyncClient(base_url=self.api_url, timeout=30, trust_env=False, verify=False)


def _passed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP]


async def _hung_up(receive: Receive) -> None:
    await receive()


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _answer(send: Send, answer: httpx.Response | None) -> None:
    if answer is None:
        return await _page(send, 502, "Bad gateway")
    # httpx has decoded it.
    left_out = _HOP_BY_HOP | {b"content-encoding"}
    kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in left_out]
    return await _send(send, answer.status_code, kept, answer.content)


async def _page(send: Send, status: int, title: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    kind = (b"content-type", b"text/html; charset=utf-8")
    await _send(send, status, [kind, *(headers or [])], _PAGE.format(title).encode())


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
