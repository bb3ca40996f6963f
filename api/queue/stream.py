"""Streams of Server-Sent Events, on which a person hears where they stand as soon as it changes."""

from collections.abc import Mapping

import msgspec

from api.http.request import Request
from api.http.response import AnyResponse, Header, Response, StreamingResponse
from api.queue.handlers import Queue
from api.queue.identity import waiting_token
from api.queue.listener import Render, event
from api.queue.live import Live

_EVENT_STREAM: tuple[Header, ...] = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    # nginx would keep events back until it has a few KB of them.
    ("x-accel-buffering", "no"),
)


class Streams:
    """Opens them."""

    def __init__(self, queue: Queue, live: Live) -> None:
        self._queue, self._live = queue, live

    async def stream(self, request: Request) -> AnyResponse:
        """GET /api/v1/queue/stream"""
        return self.begin(request, await self.first(waiting_token(request)), bytes)

    async def first(self, text: str) -> Response:
        """The status answer that a stream begins with. Raises as Live.check_room() and Queue.status_of() do."""
        self._live.check_room()
        return await self._queue.status_of(text)

    def begin(self, request: Request, answer: Response, render: Render, *headers: Header) -> AnyResponse:
        """A stream that begins with this status answer; for HEAD only what it would be sent with.

        Raises as Live.check_room() does.
        """
        if request.method == "HEAD":
            return Response(200, b"", (*_EVENT_STREAM, *headers))
        listener = self._live.add(answer, render, request.trace_id())
        return StreamingResponse(200, listener, (*_EVENT_STREAM, *headers))

    def only(self, told: Mapping[str, str], *headers: Header) -> Response:
        """A stream that ends after one `place` event, for somebody who does not wait."""
        return Response(200, event("place", msgspec.json.encode(told)), (*_EVENT_STREAM, *headers))
