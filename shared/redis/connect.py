"""Connects to the Redis with the lines, whether that is one server or a cluster."""

from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff

from shared.redis.cluster import Cluster
from shared.redis.node import MAX_CONNECTIONS, Node
from shared.settings import Settings
from shared.settings.redis_url import RedisUrl

CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0
"""Seconds within which Redis accepts a connection, and answers; then it counts as away."""

RedisClient = Node | Cluster
"""Both send commands, pipelines and scripts to whoever serves their keys."""


class _Quick:
    """What redis-py does for every command, for a quarter of its price: 160 us of a batch (measured)."""

    _reader: Any
    _writer: Any
    is_connected: bool

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Writes it. Redis-py does so under a timer of its own, which is needed only where the socket takes no more."""
        if self.is_connected and not isinstance(command, bytes | str):
            self._writer.writelines(command)
            transport = self._writer.transport
            if transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[1]:
                return
            # It is in the buffer: what is left to do is to wait.
            command = ()
        await super().send_packed_command(command, check_health)  # type: ignore[misc] # of redis-py's Connection

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


class _QuickSentinelConnection(_Quick, SentinelManagedConnection):
    pass


class _QuickSentinelSSLConnection(_Quick, SentinelManagedConnection, SSLConnection):
    pass


class _SentinelPool(SentinelConnectionPool):
    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Those to the sentinels too: they are asked when a connection is made, and that is seldom."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def connect(settings: Settings, name: str) -> RedisClient:
    """A client for the Redis with the lines. It connects when first used."""
    url = RedisUrl.parse(settings.lines_url)
    servers: list[dict[str, Any]] = [dict(parse_url(server)) for server in url.servers]
    addresses = [(server.pop("host"), server.pop("port", 6379)) for server in servers]
    common: dict[str, Any] = servers[0] | {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": ANSWER_TIMEOUT,
        "socket_keepalive": True,
        # redis-py's name and version: two commands a connection, for which a user of few rights has none.
        "lib_name": None,
        "lib_version": None,
        # A retried EVALSHA would enqueue people without a key a second time.
        "retry": Retry(NoBackoff(), 0),
    }
    tls = common.pop("connection_class", None) is SSLConnection
    if tls:
        common["ssl_ca_certs"] = settings.redis_ca_file
    common["client_name"] = name

    def to_server(host: str, port: int) -> Node:
        connection = _QuickSSLConnection if tls else _QuickConnection
        pool = ConnectionPool(connection, max_connections=MAX_CONNECTIONS, host=host, port=port, **common)
        return Node(Redis.from_pool(pool), host)

    if url.kind == "cluster":
        return Cluster(addresses, to_server, settings.key_prefix)
    if url.kind == "sentinel":
        timeouts = {option: value for option, value in common.items() if option.startswith("socket_")}
        sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis-py
            addresses, sentinel_kwargs={"ssl": tls, "ssl_ca_certs": settings.redis_ca_file} | timeouts
        )
        connection = _QuickSentinelSSLConnection if tls else _QuickSentinelConnection
        pool = _SentinelPool(url.service, sentinel, connection_class=connection, **common)  # type: ignore[no-untyped-call]
        return Node(Redis.from_pool(pool), url.service)
    return to_server(*addresses[0])
