"""A URL of the wrong kind: people are told to come back, and the log says what is wrong."""

from shared.dev.redis_server import RedisServer
from tests.cluster.conftest import dispensable
from tests.support.calls import running, try_join
from tests.support.cluster import Cluster, spread
from tests.support.processes import Api
from tests.support.refusals import refused
from tests.support.waiting import eventually


async def test_a_server_that_is_no_cluster(redis_server: RedisServer, event: str) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_server.port}"
    api = Api(url, jobs_redis_url=redis_server.url, probe="/healthz")
    async with running(api) as http:
        refused(await try_join(http, event), 503, "UNAVAILABLE")

        async def said() -> bool:
            return "is no node of a cluster: This instance has cluster support disabled" in api.log()

        await eventually(said)
        assert "Traceback" not in api.log()


async def test_one_node_of_a_cluster_as_if_it_were_all(cluster: Cluster, queue_server: RedisServer, event: str) -> None:
    # Not the one with the pulses: a process that cannot say them says so.
    events, master = spread(cluster, event), dispensable(cluster)
    api = Api(master.url, jobs_redis_url=queue_server.url, probe="/healthz")
    async with running(api) as http:
        for name, owner in events.items():
            answer = await try_join(http, name)
            if owner is master:
                assert answer.status_code == 202
            else:
                assert "another node of the cluster" in refused(answer, 503, "UNAVAILABLE")["message"]

        async def said() -> bool:
            return "another node of the cluster has this: MOVED" in api.log()

        await eventually(said)
        assert "Traceback" not in api.log()
