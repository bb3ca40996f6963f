"""Shows every state of the waiting page in every language, with made-up people: `python -m tests.room.preview`.

Each state is an event of its own (`/waiting-room/waiting`), `?lang=de&accent=ff5500` change how it is shown. With a
script the page is alive: the line in front of it moves by `--rate` people a second, and it is let in at the end.
"""

import argparse
import sys
import time
from collections.abc import Generator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args
from urllib.parse import parse_qsl, urlsplit

import msgspec

from api.http.response import Response, json_response
from api.room.assets import PATH, load_assets
from api.room.pages import Page, headers, render
from api.room.texts import LANGUAGES, State, language, texts_in

STATES: tuple[State, ...] = get_args(State)
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 32"><rect width="96" height="32" rx="6" fill="#635bff"/>'
    '<text x="48" y="22" fill="#fff" text-anchor="middle" font-family="sans-serif" font-size="16">ACME</text></svg>'
)
JOINED_S_AGO = 540


def example(state: State, **changes: object) -> Page:
    """A page of somebody who has been waiting for nine minutes, 240 people behind the door."""
    placed = state in {"waiting", "full", "paused", "ready"}
    moving = state == "waiting"
    page = Page(
        state=state,
        base=f"/waiting-room/{state}",
        event_id=state,
        title="Autumn concert",
        message="Two tickets a person. The box office in the foyer opens at noon.",
        position=241 if placed else None,
        people_ahead=240 if placed else None,
        eta_low_s=255 if moving else None,
        eta_high_s=375 if moving else None,
        joined_at=(datetime.now(UTC) - timedelta(seconds=JOINED_S_AGO)).isoformat() if placed else None,
    )
    return msgspec.structs.replace(page, **changes)


Stream = Generator[bytes, None, None]


class Preview(BaseHTTPRequestHandler):
    """One request."""

    server: "PreviewServer"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query))
        parts = url.path.strip("/").split("/")
        if url.path == "/":
            self._page(_index().encode(), (("content-type", "text/html; charset=utf-8"),))
        elif url.path == "/logo.svg":
            self._page(LOGO.encode(), (("content-type", "image/svg+xml"),))
        elif url.path.startswith(PATH):
            name, encoding = url.path.removeprefix(PATH), self.headers.get("accept-encoding", "")
            found = load_assets().answer(name, encoding, self.headers.get("if-none-match", ""))
            self._send(found or Response(404, b""))
        elif len(parts) == 2 and parts[1] in STATES:
            state: State = next(one for one in STATES if one == parts[1])
            named = {name: asked[name] for name in ("title", "message", "logo", "accent") if name in asked}
            shown = example(state, **named)
            spoken = asked.get("lang") or language(self.headers.get("accept-language", ""))
            self._page(render(shown, texts_in(spoken)), headers(shown))
        elif len(parts) == 3 and parts[2] == "place":
            self._send(self.server.place(parts[1]))
        elif len(parts) == 3 and parts[2] == "live":
            self._stream(self.server.live(parts[1]))
        else:
            self._page(b"<h1>inside</h1>", (("content-type", "text/html; charset=utf-8"),))

    def do_POST(self) -> None:
        event, _, action = urlsplit(self.path).path.removeprefix("/waiting-room/").partition("/")
        self.server.calls.append((action, event))
        if action == "leave":
            self._send(Response(303, b"", (("location", "/waiting-room/left"),)))
        elif action == "join":
            self._send(json_response(202, {"status": "waiting", "position_hint": 241, "poll_after_ms": 2000}))
        elif event != "ready" and self.server.ahead(event) > 0:
            refusal = {"code": "NOT_READY", "message": "", "trace_id": "1", "position": 9, "poll_after_ms": 60_000}
            self._send(json_response(403, {"error": refusal}))
        else:
            # Long enough for the page to be seen.
            time.sleep(2)
            self._send(json_response(200, {"location": "/inside"}))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Nothing: it would drown what the browser says."""

    def _page(self, body: bytes, with_headers: tuple[tuple[str, str], ...]) -> None:
        self._send(Response(200, body, with_headers))

    def _stream(self, news: Stream | Response) -> None:
        if isinstance(news, Response):
            self._send(news)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-store")
        self.end_headers()
        # Until the browser hangs up.
        with closing(news), suppress(ConnectionError):
            for part in news:
                self.wfile.write(part)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)


class PreviewServer(ThreadingHTTPServer):
    """Serves on a free port, or the given one."""

    daemon_threads = True

    def __init__(self, port: int = 0, rate: float = 0.8) -> None:
        super().__init__(("127.0.0.1", port), Preview)
        self.rate = rate
        self.began = time.monotonic()
        self.calls: list[tuple[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes on before it has its answer is no error; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it was given

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ahead(self, event: str) -> int:
        """How many people are ahead; nothing moves but the event `waiting`."""
        moved = (time.monotonic() - self.began) * self.rate if event in {"waiting", "join"} else 0
        return max(0, int(240 - moved))

    def place(self, event: str) -> Response:
        """The status answer."""
        if event in {"unavailable", "busy"}:
            code = "UNAVAILABLE" if event == "unavailable" else "OVERLOADED"
            return json_response(503, {"error": {"code": code, "message": "", "trace_id": "1"}}, ("retry-after", "2"))
        ahead = self.ahead(event)
        moving, wait = event in {"waiting", "join"}, ahead / self.rate
        return json_response(
            200,
            {
                "status": "ready" if ahead == 0 or event == "ready" else "waiting",
                "state": event if event in {"full", "paused"} else "waiting",
                "position": ahead + 1,
                "people": ahead,
                "eta_sec": round(wait) if moving else None,
                "eta_range_sec": [round(wait * 0.85), round(wait * 1.25)] if moving else None,
                "reason": "",
                "waiting_time": JOINED_S_AGO,
                "ready_for_entry": ahead == 0 or event == "ready",
                "poll_after_ms": 3000,
                "approximate": False,
            },
        )

    def live(self, event: str) -> Stream | Response:
        """The same as Server-Sent Events, once a second."""
        place = self.place(event)
        return self._places(event) if place.status == 200 else place

    def _places(self, event: str) -> Stream:
        while True:
            yield b"event: place\ndata: %s\n\n" % self.place(event).body
            time.sleep(1)


def _index() -> str:
    rows = (
        f"<tr><th>{state}"
        + "".join(f'<td><a href="/waiting-room/{state}?lang={lang}">{lang}</a>' for lang in LANGUAGES)
        for state in STATES
    )
    return f"<!doctype html><title>Preview</title><table>{''.join(rows)}</table>"


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8016)
    parser.add_argument("--rate", type=float, default=0.8, help="people a second")
    asked = parser.parse_args()
    server = PreviewServer(asked.port, asked.rate)
    print(f"Every state in every language: {server.url}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
