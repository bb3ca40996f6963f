"""A reverse proxy that asks the gate, for machines without nginx and Caddy: enough for a demo, and to show the idea."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

import httpx
import uvicorn

from shared.dev.redis_server import LOCALHOST
from tests.support.ports import free_port

Pairs = list[tuple[bytes, bytes]]

_PER_CONNECTION = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"content-length"}
_WORDS_OF_OURS = (b"x-daegi", b"x-forwarded", b"x-original", b"forwarded")


class PlainProxy:
    """`with PlainProxy(gate=8001, shop=9001, event="demo") as proxy:` runs it on a free port."""

    name = "a small proxy in Python"

    def __init__(self, *, gate: int, shop: int, event: str) -> None:
        self.port = free_port()
        self._daegi, self._shop = f"http://{LOCALHOST}:{gate}", f"http://{LOCALHOST}:{shop}"
        self._gate = f"{self._daegi}/api/v1/gate/{event}/forwarded/authorize"
        self._http = httpx.AsyncClient(trust_env=False, timeout=10)
        settings = uvicorn.Config(self, host=LOCALHOST, port=self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            return
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        url = (scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")).decode("latin-1")
        sent = [pair for pair in _fit(scope["headers"]) if not pair[0].replace(b"_", b"-").startswith(_WORDS_OF_OURS)]
        told = [(b"x-forwarded-uri", url.encode("latin-1")), (b"x-forwarded-method", scope["method"].encode())]
        renewed: Pairs = []
        # The path as it is spelled: what is spelled in another way is not the room, and guarded.
        if url.startswith("/waiting-room/"):
            answer = await self._http.request(scope["method"], self._daegi + url, headers=sent, content=body)
        else:
            answer = await self._http.get(self._gate, headers=[*sent, *told])
            if answer.is_success:
                renewed = [pair for pair in answer.headers.raw if pair[0].lower() == b"set-cookie"]
                sent += [pair for pair in answer.headers.raw if pair[0].lower().startswith(b"x-daegi-")]
                answer = await self._http.request(scope["method"], self._shop + url, headers=sent, content=body)
        # httpx has decoded the content.
        headers = [pair for pair in _fit(answer.headers.raw) if pair[0].lower() != b"content-encoding"]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": [*headers, *renewed]})
        await send({"type": "http.response.body", "body": answer.content})


def _fit(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """Those that are not about the connection."""
    return [pair for pair in headers if pair[0].lower() not in _PER_CONNECTION]
