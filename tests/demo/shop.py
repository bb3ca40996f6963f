"""A toy shop: it greets whoever was let in, and shows what the proxy says about them."""

import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from shared.dev.redis_server import LOCALHOST

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Toy shop</title>
<meta name="viewport" content="width=device-width">
<style>body {{ font: 18px/1.5 system-ui; max-width: 34em; margin: 4em auto; padding: 0 1em }}</style>
<h1>You are in</h1>
<p>This is the toy shop, at <code>{path}</code>. Nobody gets here without a pass: yours has the ticket
<code>{ticket}</code>.</p>
<p><a href="/">Home</a> · <a href="/checkout?item=1">Checkout</a></p>
<form method="post" action="/buy"><button>Buy</button></form></html>"""


class Shop:
    """`with Shop() as shop:` serves it on a free port."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer((LOCALHOST, 0), _Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any page."""
        page = _PAGE.format(path=escape(self.path), ticket=escape(self.headers.get("X-Daegi-Ticket", "none")))
        self._answer(page.encode())

    def do_HEAD(self) -> None:
        """The same without its body."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Any form."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it overrides
        """Says nothing: the terminal belongs to the demo."""

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
