"""The cluster that tests are given is a real one: it fails over, moves slots, and loses nothing by it."""

from collections.abc import Iterator

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from tests.support.cluster import SLOTS, Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with Cluster() as cluster:
        yield cluster


def test_fails_over_and_moves_slots(cluster: Cluster) -> None:
    first = cluster.master_of("{shop}a")
    first.client.set("{shop}a", "1")
    first.client.set("{shop}b", "2")
    assert first.client.wait(1, 5000) == 1

    second = cluster.fail_over(first)

    assert cluster.master_of("{shop}a") is second
    assert second.client.get("{shop}a") == "1"
    assert cluster.replica_of(second) is first

    third = next(master for master in cluster.masters if master is not second)
    with cluster.moving(key_slot(b"shop"), third) as move:
        move.move("{shop}a")
        assert move.keys() == ["{shop}b"]
        with pytest.raises(ResponseError, match="ASK"):
            second.client.get("{shop}a")
        with third.client.pipeline(transaction=False) as pipe, pytest.raises(ResponseError, match="TRYAGAIN"):
            pipe.execute_command("ASKING").mget("{shop}a", "{shop}b").execute()

    assert cluster.master_of("{shop}a") is third
    assert third.client.mget("{shop}a", "{shop}b") == ["1", "2"]
    with pytest.raises(ResponseError, match="MOVED"):
        second.client.get("{shop}a")


def test_a_single_node_serves_all_slots_and_is_as_strict() -> None:
    with Cluster(masters=1, replicas=0) as cluster:
        (node,) = cluster.masters
        assert node.client.set("a", "1")
        assert [len(slots) for slots in node.views()[node.id].slots] == [SLOTS]
        with pytest.raises(ResponseError, match="CROSSSLOT"):
            node.client.mget("a", "b")
