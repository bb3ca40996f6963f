"""Builds the ingress: what its handlers work with, and what runs beside them. It also starts without Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from api.admin.events import Admin
from api.contract.errors import translate
from api.contract.reference import Reference
from api.contract.routes import bind
from api.gate.cookies import Cookies
from api.gate.handlers import Gate
from api.gate.passes import Passes
from api.http.application import Application
from api.http.asgi import Asgi
from api.http.cors import Cors
from api.http.router import Handler, Router
from api.http.rsgi import Rsgi
from api.ops.key_set import KeySet
from api.ops.metrics import Traffic, measure_ingress
from api.ops.probes import Probes
from api.process import cancel, drain_first, exit_when_orphaned, tune_interpreter
from api.queue.answers import Answers
from api.queue.batched_line import BatchedLine
from api.queue.client_address import ClientAddress
from api.queue.handlers import Queue
from api.queue.identity import Identity
from api.queue.join_limit import JoinLimit
from api.queue.live import Live
from api.queue.promises import Promises
from api.queue.stream import Streams
from api.room.connector import Connector
from api.room.exits import Exits
from api.room.handlers import Room
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.sites import Sites
from api.serving.worker_outbox import WorkerOutbox
from shared import telemetry
from shared.errors import DaegiError
from shared.jobs import Jobs
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings, load_settings
from shared.telemetry.metrics import Metrics
from shared.telemetry.redis_metrics import measure_redis
from shared.tokens.connector import ConnectorTokens
from shared.tokens.jwt import JwtSigner
from shared.tokens.signer import Signer

_log = structlog.get_logger(__name__)


def create_app() -> Asgi:
    """The application for an ASGI server, `uvicorn --factory api.app:create_app`; settings from the environment."""
    return Asgi(_create())


def create_rsgi_app() -> Rsgi:
    """The application for granian's RSGI, which `python -m api` uses."""
    return Rsgi(_create())


def _create() -> Application:
    settings = load_settings()
    # Before the server writes its first log line.
    telemetry.configure(settings)
    return build(settings)


def build(settings: Settings) -> Application:
    """The application, not running yet."""
    metrics = Metrics(settings.metrics_dir)

    @asynccontextmanager
    async def running(application: Application) -> AsyncIterator[None]:
        async with _running(application, settings, metrics):
            yield

    return Application(running, Cors(settings.cors_origins), translate, Traffic(metrics).observe)


@asynccontextmanager
async def _running(application: Application, settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    for warning in settings.warnings():
        _log.warning(warning)
    async with AsyncExitStack() as stack:
        redis = connect(settings, "daegi-api")
        stack.push_async_callback(redis.aclose)
        jobs = Jobs(settings)
        stack.push_async_callback(jobs.close)
        line, clock = Line(redis, settings), RedisClock()
        pulse, outbox = Pulse(line, clock, settings), WorkerOutbox(line, jobs, clock)
        positions = PositionCache(line, clock, settings)
        stack.push_async_callback(positions.close)
        pending = PendingLimit(settings.max_pending)
        signer = Signer([secret.get_secret_value() for secret in settings.token_secrets])
        jwt_signer = _jwt_signer(settings)
        promises = Promises(metrics)
        answers = Answers(signer, settings, promises)
        batched = BatchedLine(
            settings,
            line,
            answers=answers,
            promises=promises,
            clock=clock,
            pulse=pulse,
            outbox=outbox,
            positions=positions,
            pending=pending,
            metrics=metrics,
        )
        limit, limit_header = settings.joins_per_minute, settings.trusted_address_header
        join_limit = JoinLimit(limit, limit_header) if limit else None
        identity = Identity(settings.trusted_user_header)
        queue = Queue(
            batched,
            signer=signer,
            answers=answers,
            identity=identity,
            join_limit=join_limit,
            positions=positions,
            outbox=outbox,
            jwt_signer=jwt_signer,
        )
        live = Live(
            settings,
            batched,
            answers=answers,
            signer=signer,
            clock=clock,
            positions=positions,
            outbox=outbox,
            metrics=metrics,
        )
        streams = Streams(queue, live)
        sites, cookies = Sites(line, clock), Cookies(secure=settings.cookie_secure, domain=settings.cookie_domain)
        passes = Passes(line, clock, pulse, pending, metrics)
        stack.push_async_callback(passes.drain)
        connector = _connector(settings, line, signer, sites=sites, passes=passes, cookies=cookies)
        room = Room(
            line,
            queue,
            batched,
            signer=signer,
            sites=sites,
            passes=passes,
            cookies=cookies,
            exits=Exits(jwt_signer, connector),
            positions=positions,
            identity=identity,
            join_limit=join_limit,
            pulse=pulse,
            metrics=metrics,
            streams=streams,
        )
        gate = Gate(
            line,
            signer,
            sites=sites,
            passes=passes,
            cookies=cookies,
            fail_open_seconds=settings.fail_open_seconds,
            refusal_page=room.refusal_page,
            outage_page=room.outage_page,
            metrics=metrics,
        )
        probes = Probes(line, pulse, metrics)
        key_set = KeySet(jwt_signer.public_keys if jwt_signer else ())
        measure_ingress(metrics, pending, pulse, outbox, positions, slow_readers=application.slow_readers)
        measure_redis(metrics, redis)
        admin = Admin(line, outbox, settings.admin_keys, for_connectors=connector is not None)
        described = bind(handlers(queue, streams, gate, admin=admin, probes=probes, key_set=key_set))
        application.router = Router([*described, *(connector.routes() if connector else ()), *room.routes()])
        stack.push_async_callback(_deregister, pulse)
        stack.push_async_callback(outbox.send)
        stack.push_async_callback(batched.drain)
        stack.push_async_callback(live.close)
        slow_bodies, slow_readers = application.slow_bodies, application.slow_readers
        beside = (pulse.run, outbox.run, passes.run, redis.watch, slow_bodies.run, slow_readers.run, metrics.run)
        for loop in beside:
            stack.push_async_callback(cancel, asyncio.create_task(loop()))
        tune_interpreter()
        exit_when_orphaned()
        _end_on_sigterm(application, settings.drain_seconds, probes, live)
        yield
        probes.draining = True
        _log.info("the api is stopping")


def _end_on_sigterm(application: Application, drain_seconds: float, probes: Probes, live: Live) -> None:
    def draining() -> None:
        probes.draining = True
        live.refuse_newcomers()
        application.close_connections()

    async def ending() -> None:
        await live.dismiss()
        await application.slow_readers.finish()

    drain_first(drain_seconds, draining, ending)


def handlers(
    queue: Queue, streams: Streams, gate: Gate, *, admin: Admin, probes: Probes, key_set: KeySet
) -> dict[str, Handler]:
    """Each operation's handler, by its name in api/contract/routes.py."""
    reference = Reference()
    return {
        "join": queue.join,
        "status": queue.status,
        "stream": streams.stream,
        "enter": queue.enter,
        "leave": queue.leave,
        "leaveByBeacon": queue.leave,
        "redeem": queue.redeem,
        "authorizeNginx": gate.authorize_nginx,
        "authorizeForwarded": gate.authorize_forwarded,
        "authorizeEnvoy": gate.authorize_envoy,
        "release": gate.release,
        "listEvents": admin.list_events,
        "readEvent": admin.read_event,
        "changeEvent": admin.change_event,
        "relogEvent": admin.relog_event,
        "healthz": probes.healthz,
        "readyz": probes.readyz,
        "jwks": key_set.jwks,
        "metrics": probes.metrics,
        "openapi": reference.openapi,
        "docs": reference.docs,
    }


def _jwt_signer(settings: Settings) -> JwtSigner | None:
    keys = [key.get_secret_value() for key in settings.pass_keys]
    return JwtSigner(keys, settings.public_url) if keys and settings.public_url else None


def _connector(
    settings: Settings, line: Line, signer: Signer, *, sites: Sites, passes: Passes, cookies: Cookies
) -> Connector | None:
    if settings.connector is None:
        return None
    customer, secret = settings.connector
    return Connector(
        customer,
        ConnectorTokens(secret),
        addresses=ClientAddress(settings.trusted_address_header) if settings.connector_bind_ip else None,
        line=line,
        signer=signer,
        sites=sites,
        passes=passes,
        cookies=cookies,
    )


async def _deregister(pulse: Pulse) -> None:
    try:
        await pulse.deregister()
    except DaegiError as error:
        _log.info("the pulse is left behind", error=str(error))
