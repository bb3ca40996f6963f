"""A real Redis Cluster on 127.0.0.1, built with plain commands.

Its methods block: if the test's event loop has to keep running, call them with asyncio.to_thread.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

from redis.crc import key_slot
from redis.exceptions import RedisError

from shared.dev.redis_server import LOCALHOST
from tests.support.cluster_node import Node

SLOTS = 16_384

TROUBLE = frozenset({"fail", "fail?", "handshake", "noaddr"})


class Cluster:
    """`with Cluster() as cluster:` starts one that is complete and in sync, and leaves nothing behind.

    `Cluster(masters=1, replicas=0)` is a single node that owns every slot: cheap, and as strict about slots.
    With a longer `node_timeout_ms`, a slow node is not taken for dead, but fail-over takes longer.
    """

    def __init__(
        self, *options: str, masters: int = 3, replicas: int = 1, appendonly: bool = False, node_timeout_ms: int = 1000
    ) -> None:
        self.nodes = [Node() for _ in range(masters * (1 + replicas))]
        self._masters = masters
        self._node_timeout_ms = node_timeout_ms
        self._options = (
            *("--cluster-config-file", "nodes.conf"),
            # It also sets the pace of the gossip by which they get to know each other.
            *("--cluster-node-timeout", "1000"),
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync", "yes"),
            *("--repl-diskless-sync-delay", "0"),
            *("--repl-ping-replica-period", "1"),
            *("--appendonly", "yes" if appendonly else "no"),
            *options,
        )

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda node: node.launch(*self._options), self.nodes))
            self._join_together()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all nodes."""
        for node in self.nodes:
            # A master that shuts down cleanly waits for its replicas, which is not needed here.
            if node.running:
                node.kill()
            node.close()

    @property
    def url(self) -> str:
        """DAEGI_REDIS_URL."""
        return "redis+cluster://" + ",".join(f"{LOCALHOST}:{node.port}" for node in self.nodes)

    @property
    def masters(self) -> list[Node]:
        """The nodes that serve slots now, in the order of their slots."""
        slots = {node: node.views()[node.id].slots for node in self.nodes if node.awake}
        return sorted((node for node in slots if slots[node]), key=lambda node: slots[node][0].start)

    def node(self, node_id: str) -> Node:
        """The node with this id."""
        return next(node for node in self.nodes if node.id == node_id)

    def master_of(self, key: str) -> Node:
        """The node that serves this key now."""
        return self.master_of_slot(key_slot(key.encode()))

    def master_of_slot(self, slot: int) -> Node:
        """The node that serves this slot now: if several think that they do, the one elected last."""
        own = [(node.views()[node.id], node) for node in self.nodes if node.awake]
        owners = [(view.epoch, node) for view, node in own if any(slot in some for some in view.slots)]
        return max(owners, key=lambda owner: owner[0])[1]

    def replica_of(self, master: Node) -> Node:
        """A replica of this node."""
        asked = next(node for node in self.nodes if node.awake)
        return next(self.node(one) for one, view in asked.views().items() if view.master == master.id)

    def wait_until_healthy(self) -> None:
        """Returns when all nodes are up and agree, and every replica is in sync."""
        _wait(self._healthy)

    def wait_until_promoted(self, replica: Node) -> None:
        """Returns when this node serves its dead master's slots, and every node that answers knows it."""

        def known() -> bool:
            serving = (node.views()[replica.id] for node in self.nodes if node.awake)
            return all(view.slots for view in serving) and replica.serves()

        _wait(known)

    def fail_over(self, master: Node, *, lag: float = 0) -> Node:
        """Kills a master and, once its replica has taken over, restarts it as a replica; returns the new master.

        In the last `lag` seconds before the kill the replica receives nothing, so what the master does then is lost.
        """
        replica = self.replica_of(master)
        if lag:
            replica.cut_off()
            time.sleep(lag)
        master.kill()
        self.wait_until_promoted(replica)
        replica.let_follow()
        master.restart()
        self.wait_until_healthy()
        return replica

    def heal(self) -> None:
        """Restarts and resumes nodes that are down or frozen; returns when the cluster is healthy."""
        for node in self.nodes:
            if not node.running:
                node.restart()
            elif node.paused:
                node.resume()
        self.wait_until_healthy()

    def flush(self) -> None:
        """Empties it."""
        for master in self.masters:
            master.client.flushall()

    @contextlib.contextmanager
    def moving(self, slot: int, target: Node) -> Iterator["Move"]:
        """A slot that is being moved to another master; at the end it arrives there with all its keys."""
        move = Move(self, slot, target)
        move.begin()
        try:
            yield move
        finally:
            move.finish()

    def _join_together(self) -> None:
        masters, rest = self.nodes[: self._masters], self.nodes[self._masters :]
        for number, node in enumerate(masters):
            slots = range(SLOTS * number // self._masters, SLOTS * (number + 1) // self._masters)
            node.client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        for number, node in enumerate(self.nodes):
            # Nodes with equal epochs would have to resolve the conflict first.
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            # The others learn of it by gossip.
            node.client.execute_command("CLUSTER", "MEET", LOCALHOST, self.nodes[0].port)
        for number, node in enumerate(rest):
            master = masters[number % self._masters]
            _wait(partial(_knows, node, master))
            node.client.execute_command("CLUSTER", "REPLICATE", master.id)
        self.wait_until_healthy()
        for node in self.nodes:
            node.client.config_set("cluster-node-timeout", self._node_timeout_ms)

    def _healthy(self) -> bool:
        views = [node.views() for node in self.nodes]
        own = {node.id: view[node.id] for node, view in zip(self.nodes, views, strict=True)}
        roles = {one: (view.master, view.slots) for one, view in own.items()}
        for view in views:
            agreed = {one: (seen.master, seen.slots) for one, seen in view.items()} == roles
            if not agreed or any(seen.flags & TROUBLE for seen in view.values()):
                return False
        followers = ([view.port for view in own.values() if view.master == node.id] for node in self.nodes)
        return all(
            node.serves() and node.in_sync() == sorted(ports) for node, ports in zip(self.nodes, followers, strict=True)
        )


class Move:
    """The move of one slot, step by step: a test may act between the steps."""

    def __init__(self, cluster: Cluster, slot: int, target: Node) -> None:
        self.slot = slot
        self.source, self.target = cluster.master_of_slot(slot), target
        self._cluster = cluster

    def begin(self) -> None:
        """From now on the source redirects for keys that it does not have."""
        self.target.client.execute_command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.source.id)
        self.source.client.execute_command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.target.id)

    def keys(self) -> list[str]:
        """The keys that have not been moved."""
        return [str(key) for key in self.source.client.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)]

    def move(self, *keys: str) -> None:
        """Moves these keys."""
        if keys:
            self.source.client.execute_command("MIGRATE", LOCALHOST, self.target.port, "", 0, 5000, "KEYS", *keys)

    def finish(self) -> None:
        """Moves what is left; returns when all nodes know the new owner."""
        while keys := self.keys():
            self.move(*keys)
        for node in (self.target, self.source):
            node.client.execute_command("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.id)
        self._cluster.wait_until_healthy()


def _knows(node: Node, other: Node) -> bool:
    return other.id in node.views()


def _wait(happened: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        # A node that has just been started says LOADING.
        with contextlib.suppress(RedisError):
            if happened():
                return
        assert time.monotonic() < deadline, f"{happened} did not come true within {seconds} s"
        time.sleep(0.02)


def names_on(cluster: Cluster, event: str) -> Iterator[tuple[str, Node]]:
    """Endlessly many names of events, with the master of each."""
    owners = {master: master.views()[master.id].slots for master in cluster.masters}
    for number in count(1):
        name = f"{event}-{number}"
        slot = key_slot(name.encode())
        yield name, next(master for master in owners if any(slot in some for some in owners[master]))


def spread(cluster: Cluster, event: str) -> dict[str, Node]:
    """An event for each master."""
    found: dict[Node, str] = {}
    for name, master in names_on(cluster, event):
        found.setdefault(master, name)
        if len(found) == len(cluster.masters):
            return {name: master for master, name in found.items()}
    raise AssertionError("unreachable")
