"""Requests written byte by byte: a client library would tidy up what is to be tried."""

import contextlib
import http.client
import socket
from collections.abc import Sequence

import httpx

from shared.dev.redis_server import LOCALHOST

Headers = Sequence[tuple[str, str]]

NAVIGATION: Headers = (("Accept", "text/html,*/*;q=0.8"), ("Sec-Fetch-Mode", "navigate"))


def send(
    port: int,
    target: str = "/checkout",
    *,
    method: str = "GET",
    headers: Headers = (),
    body: bytes = b"",
    host: str = "shop.example",
) -> httpx.Response | None:
    """The answer to one request over a connection of its own (all text is latin-1); None if it is hung up on."""
    with socket.create_connection((LOCALHOST, port), timeout=20) as connection:
        # Refused before all of it was sent: the answer may be there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(_head(target, method, headers, body, host) + body)
        answer = http.client.HTTPResponse(connection, method=method)
        try:
            answer.begin()
            return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        except (http.client.HTTPException, ConnectionResetError):
            return None


def upgrade(port: int, headers: Headers) -> tuple[int, bytes]:
    """Asks for a websocket: the status, and after 101 what comes back for b'hello' sent over it."""
    asked = (
        *headers,
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    )
    with socket.create_connection((LOCALHOST, port), timeout=20) as connection:
        connection.sendall(_head("/live", "GET", asked, b"", "shop.example", connection="Upgrade"))
        read = connection.makefile("rb")
        status = int(read.readline().split()[1])
        while read.readline().strip():
            pass
        if status != 101:
            return status, b""
        connection.sendall(b"hello")
        return status, read.read(5)


def _head(  # noqa: PLR0917 - the parts of a request's head, in their order
    target: str, method: str, headers: Headers, body: bytes, host: str, connection: str = "close"
) -> bytes:
    told = [("Host", host), ("Connection", connection), *headers]
    if body and not any(name.lower() == "transfer-encoding" for name, _ in headers):
        told.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told)]
    return "\r\n".join((*lines, "", "")).encode("latin-1")
