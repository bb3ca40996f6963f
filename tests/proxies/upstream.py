"""The site behind a proxy: it answers everything, and keeps what reached it as it came."""

import base64
import hashlib
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from shared.dev.redis_server import LOCALHOST


class Reached(NamedTuple):
    """A request that got through to the site. Names of headers are in lower case; targets and values are latin-1."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name]


class Upstream:
    """A toy shop on a free port. `with Upstream() as shop:`; `shop.reached` has every request it was sent.

    One that it cannot read has reached it all the same: as a Reached whose method is '' and whose target is its first
    line.
    """

    def __init__(self) -> None:
        self._server = _Server((LOCALHOST, 0), _Handler)
        self.reached = self._server.reached
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, block_on_close = True, True, False
    request_queue_size = 128

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.reached: list[Reached] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A proxy that hangs up is no fault of the site."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while start := self.rfile.readline().decode("latin-1").strip():
            method, *rest = start.split(" ")
            if len(rest) != 2:
                self.server.reached.append(Reached("", start, [], b""))
                return
            headers = list(self._headers())
            request = Reached(method, rest[0], headers, b"")
            request = request._replace(body=self._body(request))
            self.server.reached.append(request)
            if request.values("upgrade"):
                self._echo(request.values("sec-websocket-key")[0])
                return
            self._answer(request)

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()

    def _body(self, request: Reached) -> bytes:
        if "chunked" in request.values("transfer-encoding"):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        lengths = request.values("content-length")
        return self.rfile.read(int(lengths[0])) if lengths else b""

    def _answer(self, request: Reached) -> None:
        said = f"{request.method} {len(request.body)}".encode("latin-1")
        self._write("HTTP/1.1 200 OK", "X-Shop: yes", "Set-Cookie: cart=1", f"Content-Length: {len(said)}")
        if request.method != "HEAD":
            self.wfile.write(said)

    def _echo(self, key: str) -> None:
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accepted = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"
        self._write("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", accepted)
        while said := self.request.recv(4096):
            self.request.sendall(said)

    def _write(self, *lines: str) -> None:
        self.wfile.write("\r\n".join((*lines, "", "")).encode())
