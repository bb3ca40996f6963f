"""Connections to Redis, and what their failures mean."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.settings import Settings

CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0
"""Seconds within which Redis accepts a connection, and answers; then it counts as away."""

MAX_CONNECTIONS = 8
"""Per process, whatever the load: requests share round trips, they don't get connections of their own."""

_REFUSALS = ("OOM ", "READONLY", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ")


def connect(settings: Settings, name: str) -> Redis:
    """A client for the Redis with the lines. It connects when first used, and never sends anything twice."""
    tls = {"ssl_ca_certs": settings.redis_ca_file} if settings.redis_ca_file else {}
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=MAX_CONNECTIONS,
        timeout=None,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        socket_keepalive=True,
        client_name=name,
        # A retried EVALSHA would enqueue people without a key a second time.
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    return Redis.from_pool(pool)


def is_disconnect(error: BaseException) -> bool:
    """Whether Redis could not be reached, or did not answer."""
    return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError | TimeoutError)


def is_refusal(error: BaseException) -> bool:
    """Whether Redis answered that it cannot do this now: memory full, a replica, loading, failing over."""
    return isinstance(error, RedisError) and any(word in str(error) for word in _REFUSALS)
