"""A line that a test makes up: what the page is answered and told, and what it asked for."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from api.http.response import Response
from tests.room.preview import PreviewServer
from tests.room.preview import Stream as Parts

PLACE = {
    "status": "waiting",
    "state": "waiting",
    "position": 10,
    "people": 9,
    "eta_sec": 300,
    "eta_range_sec": [255, 375],
    "reason": "",
    "waiting_time": 60,
    "ready_for_entry": False,
    "poll_after_ms": 200,
    "approximate": False,
}
_NO_STREAMS = Response(503, b"", (("retry-after", "5"),))


class Stream:
    """What one page hears, for as long as it listens."""

    def __init__(self) -> None:
        self.closed = False
        self._parts: SimpleQueue[bytes] = SimpleQueue()

    def tell(self, event: str = "place", **body: object) -> None:
        """An event; a place is PLACE with changes."""
        told = {**PLACE, **body} if event == "place" else body
        self._parts.put(f"event: {event}\ndata: {json.dumps(told)}\n\n".encode())

    def hang_up(self) -> None:
        """Ends it."""
        self._parts.put(b"")

    def parts(self) -> Parts:
        """As they go to the page."""
        try:
            while part := self._parts.get():
                yield part
        finally:
            self.closed = True

    def is_left(self) -> bool:
        """Whether the page is gone. A server finds out by sending something, now and then."""
        self._parts.put(b": keep-alive\n\n")
        return self.closed

    async def is_kept(self) -> bool:
        """Whether the page is there, a moment later as well."""
        for _ in range(5):
            if self.is_left():
                break
            await asyncio.sleep(0.1)
        return not self.closed


class MadeUpLine(PreviewServer):
    """Pages of every state, and streams that a test leads. Until it allows them they are refused, and pages poll."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Stream] = []
        self.refused = 0
        self.refusal: Response | None = _NO_STREAMS

    def live(self, event: str) -> Parts | Response:
        """A stream that begins with nothing."""
        if self.refusal is not None:
            self.refused += 1
            return self.refusal
        self.streams.append(Stream())
        return self.streams[-1].parts()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serves in a thread of its own."""
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        yield
        for stream in self.streams:
            stream.hang_up()
        self.shutdown()
        thread.join()
        self.server_close()

    async def stream(self, number: int = 1) -> Stream:
        """The first that a page opened, or a later one, once it is open."""
        await until(lambda: len(self.streams) >= number)
        return self.streams[number - 1]


async def answering(page: Any, call: str, body: object, status: int = 200, **headers: str) -> list[dict[str, str]]:
    """From now on this is the answer to a call; the headers of each request as they come."""
    asked: list[dict[str, str]] = []

    async def answer(route: Any) -> None:
        asked.append(route.request.headers)
        text = {"body": body} if isinstance(body, str) else {"json": body}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await route.fulfill(status=status, headers=named, **text)

    # The newest is asked first. Without an older one, meanwhile, a call would get through to the server.
    await page.route(f"**/{call}?*", answer)
    return asked


async def holding(page: Any, call: str) -> list[Any]:
    """From now on a call is left without an answer; its requests as they come, for playwright to fulfill."""
    held: list[Any] = []

    async def hold(route: Any) -> None:
        held.append(route)

    await page.route(f"**/{call}?*", hold)
    return held


async def refusing(page: Any, call: str, status: int, code: str, **headers: str) -> list[dict[str, str]]:
    """The same with an error."""
    return await answering(page, call, {"error": {"code": code, "message": "", "trace_id": "1"}}, status, **headers)


async def state(page: Any, expected: str) -> None:
    """Waits for a state of the page."""
    await page.wait_for_selector(f"main[data-state={expected}]", timeout=20_000)


async def says(page: Any, element: str, text: str) -> None:
    """Waits until an element has this text."""
    asked = "([id, text]) => document.getElementById(id).textContent === text"
    await page.wait_for_function(asked, arg=[element, text], timeout=20_000)


async def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what it waits for is what requests fill
            await asyncio.sleep(0.02)
