"""An application that streams, for a server to serve: `tests.support.streaming_app:create_app` (or create_rsgi_app).

GET /forever sends a line every 20 ms, /fat long ones, /much sends some long ones and then nothing, /flood sends
thousands at once and ends, /three sends three, /broken fails after one. When a generator is closed it says so in the
file that STREAMING_APP_NOTES names, as when the application has ended. SIGTERM ends all.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from api.http.application import Application
from api.http.asgi import Asgi
from api.http.cors import Cors
from api.http.request import Request
from api.http.response import StreamingResponse
from api.http.router import Handler, Route, Router
from api.http.rsgi import Rsgi
from api.process import cancel, drain_first

PATHS = "/forever", "/fat", "/much", "/flood", "/three", "/broken"
MUCH = 10
"""Lines of /much."""

HEADERS = (("content-type", "text/event-stream"), ("cache-control", "no-store"))


async def _lines(request: Request) -> AsyncGenerator[bytes, None]:
    try:
        if request.path == "/flood":
            for _ in range(2000):
                yield b" " * 20_000
            return
        for number in count() if request.path in {"/forever", "/fat", "/much"} else range(3):
            yield b"line %d" % number + (b" " * 20_000 if request.path in {"/fat", "/much"} else b"") + b"\n"
            if request.path == "/broken":
                raise ZeroDivisionError
            if request.path == "/much" and number == MUCH - 1:
                await asyncio.Event().wait()
            await asyncio.sleep(0.02)
    finally:
        _note(f"{request.path} closed\n")


def _note(line: str) -> None:
    with Path(os.environ["STREAMING_APP_NOTES"]).open("a") as notes:
        notes.write(line)


async def _stream(request: Request) -> StreamingResponse:
    return StreamingResponse(200, _lines(request), HEADERS)


@asynccontextmanager
async def _running(application: Application) -> AsyncIterator[None]:
    handler: Handler = _stream
    application.router = Router([Route("GET", path, handler) for path in PATHS])
    looking = asyncio.create_task(application.slow_readers.run())
    drain_first(0, lambda: None, application.slow_readers.finish)
    yield
    await cancel(looking)
    _note("stopped\n")


def _application() -> Application:
    return Application(_running, Cors([]), lambda error: None, lambda endpoint, status, seconds: None)


def create_app() -> Asgi:
    """For an ASGI server."""
    return Asgi(_application())


def create_rsgi_app() -> Rsgi:
    """For granian's RSGI."""
    return Rsgi(_application())
