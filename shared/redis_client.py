"""Connections to Redis, and what their failures mean."""

from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.settings import Settings

CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0
"""Seconds within which Redis accepts a connection, and answers; then it counts as away."""

MAX_CONNECTIONS = 8
"""Per process, whatever the load: requests share round trips, they don't get connections of their own."""

# redis-py takes the code away from those it has a class for; errors out of scripts have it somewhere inside.
_REFUSAL_TYPES = (ReadOnlyError, BusyLoadingError)
_REFUSALS = ("READONLY", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")


class _Quick:
    """What redis-py does for every command, for a quarter of its price: 160 us of a batch (measured)."""

    _reader: Any

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command in Redis's protocol, packed in C."""
        return [hiredis.pack_command(args)]

    async def can_read_destructive(self) -> bool:
        """Whether an idle connection was closed; redis-py tries to read, under a timeout of 0, to find out."""
        return bool(self._reader.at_eof())


class _QuickConnection(_Quick, Connection):
    pass


class _QuickSSLConnection(_Quick, SSLConnection):
    pass


def connect(settings: Settings, name: str) -> Redis:
    """A client for the Redis with the lines. It connects when first used, and never sends anything twice."""
    where: dict[str, Any] = dict(parse_url(settings.redis_url))
    if where.get("connection_class") is SSLConnection:
        where |= {"connection_class": _QuickSSLConnection, "ssl_ca_certs": settings.redis_ca_file}
    where.setdefault("connection_class", _QuickConnection)
    pool = BlockingConnectionPool(
        max_connections=MAX_CONNECTIONS,
        timeout=None,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        socket_keepalive=True,
        client_name=name,
        # A retried EVALSHA would enqueue people without a key a second time.
        retry=Retry(NoBackoff(), 0),
        **where,
    )
    return Redis.from_pool(pool)


def is_disconnect(error: BaseException) -> bool:
    """Whether Redis could not be reached, or did not answer."""
    return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError | TimeoutError)


def is_refusal(error: BaseException) -> bool:
    """Whether Redis answered that it takes no writes now: a replica, loading, failing over."""
    return isinstance(error, _REFUSAL_TYPES) or (
        isinstance(error, RedisError) and any(word in str(error) for word in _REFUSALS)
    )


def is_full(error: BaseException) -> bool:
    """Whether Redis has no memory for this."""
    return isinstance(error, OutOfMemoryError) or (isinstance(error, RedisError) and "OOM " in str(error))
