"""From a request to a response: routing, one envelope for every error, and the headers that every answer carries."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter

import structlog

from api.http.cors import Cors
from api.http.errors import CLOSE, HttpError, UnexpectedError
from api.http.request import Request
from api.http.response import AnyResponse, Header, Response
from api.http.router import Router
from api.http.slow_bodies import SlowBodies
from api.http.slow_readers import SlowReaders
from shared.telemetry import error_reports

_log = structlog.get_logger(__name__)

Translate = Callable[[Exception], HttpError | None]
"""The HTTP error for an exception that is raised on purpose; None for any other."""

Observe = Callable[[str, int, float], None]
"""Records an answer: its endpoint, its status, and the seconds until it was ready."""


class Application:
    """What the adapters of both protocols serve. `running` is its lifespan, and sets `router`."""

    def __init__(
        self,
        running: Callable[["Application"], AbstractAsyncContextManager[None]],
        cors: Cors,
        translate: Translate,
        observe: Observe,
    ) -> None:
        self.router = Router()
        self.slow_bodies, self.slow_readers = SlowBodies(), SlowReaders()
        self._running = running
        self._cors = cors
        self._translate = translate
        self._observe = observe
        self._always: tuple[Header, ...] = ()

    def running(self) -> AbstractAsyncContextManager[None]:
        """The lifespan: serve only within this context."""
        return self._running(self)

    def close_connections(self) -> None:
        """From now on every answer closes its connection."""
        self._always = CLOSE

    async def respond(self, request: Request) -> AnyResponse:
        """The answer; raises nothing."""
        began = perf_counter()
        endpoint, handler = self.router.find(request)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - one envelope for everything that goes wrong
            response = self._failure(request, error)
        if self._always:
            response = response.adding(self._always)
        if self._cors.enabled:
            if response.status == 405 and request.method == "OPTIONS":
                response = self._cors.preflight()
            response = response.adding(self._cors.headers(request))
        self._observe(endpoint, response.status, perf_counter() - began)
        return response

    def _failure(self, request: Request, error: Exception) -> Response:
        trace_id = request.trace_id()
        refusal = error if isinstance(error, HttpError) else self._translate(error)
        if refusal is not None:
            return refusal.response(trace_id)
        tags, reported = {"trace_id": trace_id}, False
        if isinstance(error, UnexpectedError):
            tags |= error.tags
            reported, error.reported = error.reported, True
        _log.error("a request failed", path=request.path, exc_info=None if reported else error, **tags)
        if not reported:
            error_reports.capture(error, **tags)
        return HttpError(500, "INTERNAL_ERROR", "something went wrong here").response(trace_id)
