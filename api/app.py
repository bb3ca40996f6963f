"""The ASGI application: its routes, and the lifespan that builds what they work with."""

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter

import structlog

from api.admin.events import Admin
from api.http.core import (
    Header,
    HttpError,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    SlowBodies,
    UnexpectedError,
    refusal,
)
from api.ops.metrics import OTHER, Traffic, measure_ingress
from api.ops.probes import Operations
from api.queue.handlers import Queue, Services
from api.serving.clock import RedisClock
from api.serving.load_shedding import Gate
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.worker_outbox import Errands
from shared import telemetry
from shared.errors import DaegiError
from shared.jobs import Jobs
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings, load_settings
from shared.telemetry import error_reports
from shared.telemetry.metrics import Metrics
from shared.telemetry.redis_metrics import measure_redis
from shared.tokens.signer import Signer

Handler = Callable[[Request], Awaitable[Response]]
_log = structlog.get_logger(__name__)

_ORPHAN_SECONDS = 5
"""A process without a parent has this long to end in good order."""

_EVENT_PATH = "/api/v1/admin/events/"
_EVENT_PATTERN = "/api/v1/admin/events/{event_id}"
_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class App:
    """Daegi's ingress. It starts, and stays up, without Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._routes: dict[str, dict[str, Handler]] = {}
        self._admin: Admin | None = None
        self._headers = _HEADERS
        self._cors = Cors(settings.cors_origins)
        self._metrics = Metrics(settings.metrics_dir)
        self._traffic = Traffic(self._metrics)
        self._slow_bodies = SlowBodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        began = perf_counter()
        request = Request(scope, receive, self._slow_bodies)
        endpoint = scope["path"]
        try:
            methods = self._routes.get(endpoint)
            if methods is None:
                endpoint = _EVENT_PATTERN if endpoint.startswith(_EVENT_PATH) else OTHER
            handler = (methods and methods.get(scope["method"])) or self._find(scope)
            status, body, extra = await handler(request)
        except Exception as error:  # noqa: BLE001 - one envelope for everything that goes wrong
            status, body, extra = _failure(request, error)
        # What is no JSON says so itself.
        common = self._headers[1:] if extra and extra[0][0] == b"content-type" else self._headers
        headers = [*common, (b"content-length", b"%d" % len(body)), *extra]
        if self._cors.enabled:
            headers += self._cors.headers(request)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._traffic.note(endpoint, status, perf_counter() - began)

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def _find(self, scope: Scope) -> Handler:
        path: str = scope["path"]
        methods = self._routes.get(path)
        if methods is None and path.startswith(_EVENT_PATH) and self._admin:
            event_id, slash, action = path.removeprefix(_EVENT_PATH).partition("/")
            if not slash:
                methods = {
                    "GET": partial(self._admin.read_event, event_id=event_id),
                    "PUT": partial(self._admin.change_event, event_id=event_id),
                }
            elif action == "relog":
                methods = {"POST": partial(self._admin.relog_event, event_id=event_id)}
        if methods is None:
            raise HttpError(404, "NOT_FOUND", "there is nothing at this path")
        handler = methods.get(scope["method"])
        if handler is None:
            if scope["method"] == "OPTIONS" and self._cors.enabled:
                return self._cors.preflight
            allow = ", ".join(sorted(methods)).encode()
            raise HttpError(405, "METHOD_NOT_ALLOWED", "not with this method", headers=((b"allow", allow),))
        return handler

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        stack = AsyncExitStack()
        try:
            await stack.enter_async_context(self._running())
        except Exception as error:  # noqa: BLE001 - ASGI wants it said, not raised
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        settings = self._settings
        for warning in settings.warnings():
            _log.warning(warning)
        async with AsyncExitStack() as stack:
            redis = connect(settings, "daegi-api")
            stack.push_async_callback(redis.aclose)
            jobs = Jobs(settings)
            stack.push_async_callback(jobs.close)
            line, clock = Line(redis, settings), RedisClock()
            signer = Signer([secret.get_secret_value() for secret in settings.token_secrets])
            pulse, errands = Pulse(line, clock, settings), Errands(line, jobs, clock)
            positions = PositionCache(line, clock, settings)
            stack.push_async_callback(positions.close)
            gate = Gate(settings.max_pending)
            queue = Queue(Services(settings, line, signer, clock, pulse, errands, positions, gate, self._metrics))
            operations = Operations(line, pulse, self._metrics)
            measure_ingress(self._metrics, gate, pulse, errands, positions)
            measure_redis(self._metrics, redis)
            self._admin = Admin(line, errands, settings.admin_keys)
            self._routes = routes(queue, self._admin, operations)
            stack.push_async_callback(_deregister, pulse)
            stack.push_async_callback(errands.send)
            stack.push_async_callback(queue.drain)
            for beat in (pulse.run, errands.run, redis.watch, self._slow_bodies.run, self._metrics.run):
                task = asyncio.create_task(beat())
                stack.push_async_callback(_end, task)
            _tune_interpreter()
            _outlive_no_parent()
            if settings.drain_seconds:
                self._drain_first(operations)
            yield
            operations.draining = True
            _log.info("the api is stopping")

    def _drain_first(self, operations: Operations) -> None:
        """On SIGTERM /readyz says no and answers end their connections; some time later, when balancers send nobody
        here any more, the server stops.

        By itself it would close its port at once. SIGINT means the same to servers, and stays theirs.
        """
        loop = asyncio.get_running_loop()

        def drain() -> None:
            if not operations.draining:
                operations.draining = True
                self._headers = (*_HEADERS, (b"connection", b"close"))
                loop.call_later(self._settings.drain_seconds, os.kill, os.getpid(), signal.SIGINT)

        loop.add_signal_handler(signal.SIGTERM, drain)


def routes(queue: Queue, admin: Admin, operations: Operations) -> dict[str, dict[str, Handler]]:
    """Path -> method -> handler; the paths with an event id in them are App's."""
    return {
        "/api/v1/queue/join": {"POST": queue.join},
        "/api/v1/queue/status": {"GET": queue.status},
        "/api/v1/queue/enter": {"POST": queue.enter},
        "/api/v1/queue/leave": {"DELETE": queue.leave, "POST": queue.leave},
        "/api/v1/queue/redeem": {"POST": queue.redeem},
        "/api/v1/admin/events": {"GET": admin.list_events},
        "/healthz": {"GET": operations.healthz, "HEAD": operations.healthz},
        "/readyz": {"GET": operations.readyz, "HEAD": operations.readyz},
        "/metrics": {"GET": operations.metrics},
        "/openapi.json": {"GET": operations.openapi},
        "/docs": {"GET": operations.docs},
    }


def _failure(request: Request, error: Exception) -> Response:
    trace_id = request.trace_id()
    if isinstance(error, HttpError):
        return error.response(trace_id)
    if isinstance(error, DaegiError):
        return refusal(error).response(trace_id)
    about, told = {"trace_id": trace_id}, False
    if isinstance(error, UnexpectedError):
        about["event_id"] = error.event_id
        told, error.told = error.told, True
    _log.error("a request failed", path=request.scope["path"], exc_info=None if told else error, **about)
    if not told:
        error_reports.capture(error, **about)
    return HttpError(500, "INTERNAL_ERROR", "something went wrong here").response(trace_id)


class Cors:
    """Lets pages of the given origins call the api from a browser; ["*"] lets all."""

    def __init__(self, origins: list[str]) -> None:
        self.enabled = bool(origins)
        self._any = "*" in origins
        self._origins = {origin.encode() for origin in origins}

    def headers(self, request: Request) -> list[Header]:
        """What a browser needs to see beside the answer."""
        origin = request.headers().get(b"origin")
        vary = [] if self._any else [(b"vary", b"origin")]
        if origin is None or not (self._any or origin in self._origins):
            return vary
        allowed = b"*" if self._any else origin
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", b"retry-after"),
            *vary,
        ]

    async def preflight(self, request: Request) -> Response:
        """OPTIONS of any path that exists."""
        headers = (
            (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
            (b"access-control-allow-headers", b"content-type, idempotency-key, x-request-id, authorization"),
            (b"access-control-max-age", b"600"),
        )
        return 204, b"", headers


def _tune_interpreter() -> None:
    # Requests leave no cycles behind: looking for them after every 700 objects took a sixth of the loop's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # Granian reads and writes in a thread of its own, which would wait up to 5 ms for its turn: 2 to 8 % faster so.
    sys.setswitchinterval(0.00005)


def _outlive_no_parent() -> None:
    """Ends this process when the one that started it is gone: nobody would ever stop it otherwise."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def look() -> None:
        if os.getppid() == parent.pid:
            loop.call_later(1, look)
            return
        os.kill(os.getpid(), signal.SIGINT)
        # Granian never hears of a signal that came while it started.
        loop.call_later(_ORPHAN_SECONDS, os.kill, os.getpid(), signal.SIGKILL)

    loop.call_later(1, look)


async def _deregister(pulse: Pulse) -> None:
    try:
        await pulse.deregister()
    except DaegiError as error:
        _log.info("left without deregistering", error=str(error))


async def _end(task: "asyncio.Task[None]") -> None:
    # Once is not enough: Python 3.11's wait_for, under which redis-py sends, now and then loses a cancellation.
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.5)


def create_app() -> App:
    """The application, with settings from the environment: for `granian --factory` and `uvicorn --factory`."""
    settings = load_settings()
    # Before uvicorn says its first word.
    telemetry.configure(settings)
    return App(settings)
