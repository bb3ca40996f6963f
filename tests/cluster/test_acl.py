"""The user of few rights that `python -m shared.acl` makes is enough on a cluster too."""

from typing import Any

from shared.acl import CLUSTER, set_user
from shared.dev.redis_server import RedisServer
from shared.settings import Settings
from tests.support.calls import running, try_join
from tests.support.cluster import Cluster, spread
from tests.support.cluster_node import Node
from tests.support.exposition import scrape
from tests.support.processes import Api
from tests.support.redis_version import redis_major
from tests.support.waiting import eventually


def used(node: Node) -> set[str]:
    stats: Any = node.client.info("commandstats")
    return {name.removeprefix("cmdstat_") for name, found in stats.items() if found["calls"] > found["failed_calls"]}


async def test_a_node_that_was_away_is_found_again(event: str) -> None:
    with Cluster(masters=3, replicas=0) as cluster, RedisServer() as queue:
        url = cluster.url.replace("://", "://daegi:sesame@")
        settings = Settings.model_validate({"redis_url": url, "jobs_redis_url": queue.url, "key_prefix": "ten*nt:"})
        there, _, lost = spread(cluster, event).items()
        for node in cluster.nodes:
            node.client.execute_command(*set_user(settings).split())
            node.client.config_resetstat()
        needed = {name if redis_major() >= 7 else name.partition("|")[0] for name in CLUSTER}
        api = Api(url, jobs_redis_url=queue.url, key_prefix="ten*nt:")
        async with running(api) as http:

            async def found_again() -> bool:
                return (await scrape(api.port)).value("daegi_redis_away") == 0

            for name, _ in (there, lost):
                assert (await try_join(http, name)).status_code == 202
            lost[1].pause()
            assert (await try_join(http, lost[0])).status_code == 503
            assert (await try_join(http, there[0])).status_code == 202
            assert not await found_again()
            lost[1].resume()
            # Nobody joins meanwhile, who would have found it too: the process looks for it by itself.
            await eventually(found_again)
            assert (await try_join(http, lost[0])).status_code == 202
        # Any node may be the one that is asked for the slots.
        assert needed <= set[str]().union(*map(used, cluster.nodes))
        for node in cluster.nodes:
            log: Any = node.client.execute_command("ACL LOG")
            assert [one["object"] for one in log if not one["object"].startswith("client")] == []
