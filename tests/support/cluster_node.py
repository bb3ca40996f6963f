"""One redis-server of a cluster."""

import random
from typing import Any, NamedTuple, Self

from redis import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer, RedisServerError, is_free

BUS = 10_000
"""The nodes talk to each other on their own port plus this offset."""

PORTS = range(22_000, 22_700)
"""Their bus ports are above those that shared.dev uses and below the system's range for outgoing connections: nobody
takes the bus port of a node that a test has killed."""


class View(NamedTuple):
    """What one node thinks of another."""

    port: int
    flags: frozenset[str]
    master: str
    epoch: int
    slots: tuple[range, ...]


class Node(RedisServer):
    """One redis-server of a cluster, with a client for reading and for damage."""

    def __init__(self) -> None:
        super().__init__()
        self.id = ""
        self.running = self.paused = False
        self._client: Redis | None = None

    @property
    def client(self) -> Redis:
        """A client of this node alone: it follows no redirection."""
        if self._client is None:
            self._client = Redis(LOCALHOST, self.port, decode_responses=True, socket_timeout=5)
        return self._client

    @property
    def awake(self) -> bool:
        """Whether it can answer."""
        return self.running and not self.paused

    def launch(self, *options: str) -> Self:
        """Starts it on a port whose bus is free too."""
        for last in (False, False, False, True):
            ports = random.SystemRandom().sample(PORTS, len(PORTS))
            port = next(port for port in ports if is_free(port) and is_free(port + BUS))
            try:
                self.start(port, None, "--cluster-enabled", "yes", *options)
                break
            except RedisServerError:
                # Somebody else took the port at the same time.
                if last:
                    raise
        self.running = True
        self.id = str(self.client.execute_command("CLUSTER", "MYID"))
        return self

    def kill(self) -> None:
        """SIGKILL. Without an append-only file its data is gone."""
        self.running = self.paused = False
        super().kill()

    def restart(self) -> None:
        """Starts it again with what it knew about the cluster."""
        super().restart()
        self.running, self.paused = True, False

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        super().pause()

    def resume(self) -> None:
        """SIGCONT."""
        super().resume()
        self.paused = False

    def cut_off(self) -> None:
        """Stops a replica from following its master: it logs in with a password that does not exist."""
        self.client.config_set("masterauth", "wrong")
        self.client.execute_command("CLIENT", "KILL", "TYPE", "MASTER")

    def let_follow(self) -> None:
        """Undoes that."""
        self.client.config_set("masterauth", "")

    def close(self) -> None:
        """Ends it and closes the client."""
        self.running = False
        if self._client is not None:
            self._client.close()
            self._client = None
        super().close()

    def views(self) -> dict[str, View]:
        """The cluster as this node sees it, by id."""
        found = {}
        for line in str(self.client.execute_command("CLUSTER", "NODES")).splitlines():
            node, address, flags, master, _, _, epoch, _, *slots = line.split()
            # A slot that is being moved is shown in brackets.
            ends = [one.split("-") for one in slots if not one.startswith("[")]
            ranges = tuple(range(int(one[0]), int(one[-1]) + 1) for one in ends)
            port = int(address.partition("@")[0].rpartition(":")[2])
            found[node] = View(port, frozenset(flags.split(",")), master, int(epoch), ranges)
        return found

    def serves(self) -> bool:
        """Whether it considers the cluster and itself healthy."""
        return "cluster_state:ok" in str(self.client.execute_command("CLUSTER", "INFO"))

    def knows(self, sha: str) -> bool:
        """Whether a script has been loaded here."""
        return self.client.execute_command("SCRIPT EXISTS", sha) == [True]

    def scores(self, key: str) -> dict[str, float]:
        """A sorted set that is here, even while its slot is being moved."""
        with self.client.pipeline(transaction=False) as pipe:
            return dict(pipe.execute_command("ASKING").zrange(key, 0, -1, withscores=True).execute()[1])

    def in_sync(self) -> list[int]:
        """The ports of the replicas that follow it."""
        told: dict[str, Any] = self.client.info("replication")  # type: ignore[assignment] # redis-py
        return sorted(one["port"] for one in told.values() if isinstance(one, dict) and one["state"] == "online")
