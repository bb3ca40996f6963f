"""The site behind a proxy: it answers everything, and keeps what reached it as it came."""

import base64
import hashlib
import socketserver
import threading
from typing import NamedTuple, Self

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
    """A toy shop on a free port. `with Upstream() as shop:`; `shop.reached` has every request it was sent."""

    def __init__(self) -> None:  # noqa: C901 - the handler within it has a method for each HTTP method
        self.reached: list[Reached] = []
        reached = self.reached

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (request := self._read()) is not None:
                    reached.append(request)
                    if request.values("upgrade"):
                        self._echo(request.values("sec-websocket-key")[0])
                        return
                    said = f"{request.method} {len(request.body)}".encode("latin-1")
                    head = (
                        f"HTTP/1.1 200 OK\r\nX-Shop: yes\r\nSet-Cookie: cart=1\r\nContent-Length: {len(said)}\r\n\r\n"
                    )
                    self.wfile.write(head.encode() + (b"" if request.method == "HEAD" else said))

            def _read(self) -> Reached | None:
                start = self.rfile.readline()
                if not start.strip():
                    return None
                method, target, _ = start.decode("latin-1").split(" ", 2)
                headers = []
                while line := self.rfile.readline().strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers.append((name.lower(), value.strip()))
                request = Reached(method, target, headers, b"")
                return request._replace(body=self._body(request))

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

            def _echo(self, key: str) -> None:
                accepted = base64.b64encode(
                    hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
                ).decode()
                head = (
                    "HTTP/1.1 101 Switching Protocols",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    f"Sec-WebSocket-Accept: {accepted}",
                )
                self.wfile.write("\r\n".join((*head, "", "")).encode())
                while said := self.request.recv(4096):
                    self.request.sendall(said)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, block_on_close = True, True, False
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """A proxy that hangs up is no fault of the site."""

        self._server = Server((LOCALHOST, 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
