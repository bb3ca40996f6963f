"""The job queue. Only this module and workers/main.py know arq."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from shared.errors import UnavailableError, UnknownVersionError
from shared.settings import Settings

VERSION = 1
"""The version of the payload; a worker refuses one that it does not know."""

EXPIRES_MS = 120_000
"""A job that no worker has started by then is dropped: the sweep will have requested what still matters again. A job
whose worker died goes to another one after 70 s (workers/main.py), so it has to last longer than that."""

_FORGOTTEN_MS, _FORGET_EVERY_MS = 600_000, 60_000
"""arq keeps the ids of dropped jobs until a worker runs. They are removed at this age, and at most this often. The age
is high enough that a process whose clock runs ahead does not remove a job that still waits."""

_TIMEOUT = 1.0

QUEUE_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a call to the queue raises while its Redis is unavailable: uvloop's RuntimeError if that hangs up at once."""


class Work(msgspec.Struct, omit_defaults=True):
    """A job's payload: events, events with their last activity (ms), events with tickets."""

    v: int = VERSION
    events: list[str] = []
    activity: dict[str, int] = {}
    tickets: dict[str, list[int]] = {}

    @classmethod
    def parse(cls, payload: Any) -> "Work":
        """Decodes the payload of a job; raises UnknownVersionError."""
        if not isinstance(payload, dict) or payload.get("v") != VERSION:
            version = payload.get("v") if isinstance(payload, dict) else None
            raise UnknownVersionError(f"a job's payload is of version {version!r}, this worker knows {VERSION}")
        return msgspec.convert(payload, cls)


def serialize(job: dict[str, Any]) -> bytes:
    """A job or its result in msgpack. An exception as a result is kept as its name: nobody reads it."""
    return msgspec.msgpack.encode(job, enc_hook=lambda value: type(value).__name__)


def deserialize(data: bytes) -> dict[str, Any]:
    """Decodes what serialize wrote."""
    job: dict[str, Any] = msgspec.msgpack.decode(data)
    return job


def queue_name(settings: Settings) -> str:
    """The queue of this tenant."""
    return f"{settings.key_prefix}arq:daegi"


def open_queue(settings: Settings, *, timeout: float, max_connections: int) -> ArqRedis:
    """A client for the job queue; it connects when first used."""
    tls = {"ssl_ca_certs": settings.redis_ca_file} if settings.jobs_url.startswith("rediss") else {}
    pool = BlockingConnectionPool.from_url(
        settings.jobs_url,
        max_connections=max_connections,
        timeout=None,
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
        socket_keepalive=True,
        lib_name=None,
        lib_version=None,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    return ArqRedis(
        pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=queue_name(settings),
        expires_extra_ms=EXPIRES_MS,
    )


class Jobs:
    """Enqueues jobs for the workers. Each job has its own id: with a shared one, payloads get lost.

    Raises UnavailableError within about a second when the queue is unavailable.
    """

    def __init__(self, settings: Settings) -> None:
        self._name = queue_name(settings)
        self._queue = open_queue(settings, timeout=_TIMEOUT, max_connections=2)
        self._forgot_at = 0

    async def compute_positions(self, event_ids: Sequence[str]) -> None:
        """Requests the position index of these events to be published."""
        await self._ask("compute_positions", Work(events=list(event_ids)))

    async def refresh_heartbeats(self, tickets: Mapping[str, Sequence[int]]) -> None:
        """Requests the heartbeats of these people, who polled under a lease, to be written."""
        await self._ask("refresh_heartbeats", Work(tickets={event: list(some) for event, some in tickets.items()}))

    async def repair_index(
        self, event_ids: Sequence[str] = (), tickets: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Requests missing entries of these events, or these tickets, to be written back."""
        some = {event: list(them) for event, them in (tickets or {}).items()}
        await self._ask("repair_index", Work(events=list(event_ids), tickets=some))

    async def reap_expired(self, activity: Mapping[str, int]) -> None:
        """Requests a visit of these events, given with their last activity in ms."""
        await self._ask("reap_expired", Work(activity=dict(activity)))

    async def waiting(self) -> int:
        """How many jobs wait or run."""
        try:
            return await self._count()
        except QUEUE_ERRORS as error:
            raise UnavailableError(f"the job queue is unavailable: {type(error).__name__}") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._queue.aclose(close_connection_pool=True)

    async def _ask(self, function: str, work: Work) -> None:
        try:
            await self._queue.enqueue_job(function, msgspec.to_builtins(work) | {"v": VERSION})
            await self._forget_dropped_jobs()
        except QUEUE_ERRORS as error:
            raise UnavailableError(f"the job queue is unavailable: {type(error).__name__}") from error

    async def _count(self) -> int:
        try:
            return int(await self._queue.zcount(self._name, timestamp_ms() - EXPIRES_MS, "+inf"))
        except NoPermissionError:
            # The ACL of an earlier version does not allow this: then dropped jobs are counted as well.
            return int(await self._queue.zcard(self._name))

    async def _forget_dropped_jobs(self) -> None:
        now = timestamp_ms()
        if 0 <= now - self._forgot_at < _FORGET_EVERY_MS:
            return
        self._forgot_at = now
        # Without the right to do this, the queue grows while no worker runs, as it did in the earlier version.
        with suppress(NoPermissionError):
            await self._queue.zremrangebyscore(self._name, "-inf", now - _FORGOTTEN_MS)
