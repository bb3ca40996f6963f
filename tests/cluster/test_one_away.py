"""A master is gone together with its replica, so that nobody takes over: everything goes on on the others."""

from itertools import islice

from shared.dev.redis_server import RedisServer
from shared.line.line import Join, Line
from tests.cluster.conftest import Seen, dispensable
from tests.support.cluster import Cluster, names_on
from tests.support.processes import Worker
from tests.support.settings import HEARTBEAT_TTL
from tests.support.waiting import eventually


async def test_workers_go_on_with_the_events_of_the_others(
    cluster: Cluster, cluster_line: Line, queue_server: RedisServer, event: str
) -> None:
    lost = dispensable(cluster)
    # By name these come first, and are more than a worker has in hand at once.
    doomed = list(islice((name for name, master in names_on(cluster, f"a-{event}") if master is lost), 10))
    others = list(islice((name for name, master in names_on(cluster, f"b-{event}") if master is not lost), 10))
    for name in (*doomed, *others):
        batch = await cluster_line.enqueue(name, [Join(b"", b"")], may_create=True)
        await cluster_line.note_activity([name], batch.standing.now)
    seen = [Seen(cluster, name) for name in others]
    with Worker(cluster.url, jobs_redis_url=queue_server.url, heartbeat_ttl=HEARTBEAT_TTL) as worker:

        async def all_swept() -> bool:
            return all(one.redis.hexists(one.keys.state, "swept") for one in seen)

        await eventually(all_swept)
        cluster.replica_of(lost).kill()
        lost.kill()

        for _ in range(2):
            for one in seen:
                one.redis.hdel(one.keys.state, "swept")
                one.redis.delete(one.keys.position_index, one.keys.heartbeat)

            async def all_done() -> bool:
                return all(
                    one.redis.hexists(one.keys.state, "swept")
                    and one.redis.exists(one.keys.position_index, one.keys.heartbeat) == 2
                    for one in seen
                )

            await eventually(all_done)
        assert "Traceback" not in worker.log()
