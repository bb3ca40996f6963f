"""A real cluster for the tests of a module, events on each of its masters, and what tests see and change there."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from shared.dev.redis_server import RedisServer
from shared.line.keys import EventKeys, Keys
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.support.cluster import Cluster
from tests.support.cluster_node import Node

KEYS = Keys()


@pytest.fixture(scope="module")
def shared_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each; starting them takes 2 s.

    In a module with FAILS_OVER a master is given up after a second; elsewhere a slow machine must not do that.
    """
    with Cluster(node_timeout_ms=1000 if hasattr(request.module, "FAILS_OVER") else 5000) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """Empty, and made whole again afterwards."""
    shared_cluster.flush()
    yield shared_cluster
    shared_cluster.heal()


@pytest.fixture
def queue_server() -> Iterator[RedisServer]:
    """The job queue's Redis, which is no cluster."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def cluster_line(cluster: Cluster) -> AsyncIterator[Line]:
    """A line on the cluster, by the servers' own clocks."""
    # It asks for no jobs.
    settings = Settings.model_validate({"redis_url": cluster.url, "jobs_redis_url": "redis://127.0.0.1:1/0"})
    client = connect(settings, "daegi-tests")
    yield Line(client, settings)
    await client.aclose()


def dispensable(cluster: Cluster) -> Node:
    """A master without the keys that belong to no event."""
    needed = {cluster.master_of(key) for key in (KEYS.events, KEYS.pulse, KEYS.sweep)}
    return next(master for master in cluster.masters if master not in needed)


class Seen:
    """An event as its master has it now."""

    def __init__(self, cluster: Cluster, event: str) -> None:
        self.keys: EventKeys = KEYS.event(event)
        self.redis = cluster.master_of(self.keys.stream).client

    def logged(self) -> list[int]:
        """Every ticket in the log, in its order."""
        entries = self.redis.xrange(self.keys.stream)
        assert isinstance(entries, list)
        return [int(ms) * 1000 + int(rest) for ms, rest in (entry_id.split("-") for entry_id, _ in entries)]

    def members(self) -> list[int]:
        """Everybody in line, called or absent, by ticket."""
        some = (self._tickets(key) for key in (self.keys.queue, self.keys.called, self.keys.absent))
        return sorted(ticket for tickets in some for ticket in tickets)

    def heard(self) -> dict[int, int]:
        """When each was last heard, in ms."""
        found = self.redis.zrange(self.keys.heartbeat, 0, -1, withscores=True)
        assert isinstance(found, list)
        return {int(ticket): int(score) for ticket, score in found}

    def whole(self) -> bool:
        """Log = line + called + absent, and everybody has a heartbeat."""
        logged = self.logged()
        return logged == self.members() == sorted(self.heard())

    def now(self) -> int:
        """Its clock, in ms."""
        told = self.redis.time()
        assert isinstance(told, tuple)
        return int(told[0]) * 1000 + int(told[1]) // 1000

    def silence(self, tickets: Sequence[int], seconds: float) -> None:
        """Makes it so that these have not been heard for this long."""
        then = self.now() - round(seconds * 1000)
        assert self.redis.zadd(self.keys.heartbeat, {str(ticket): then for ticket in tickets}, xx=True, ch=True)

    def _tickets(self, key: str) -> list[int]:
        found = self.redis.zrange(key, 0, -1)
        assert isinstance(found, list)
        return [int(ticket) for ticket in found]
