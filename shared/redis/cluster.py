"""A Redis Cluster: each call goes to the master that serves its key's slot."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar

import structlog
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ResponseError

from shared.errors import UnavailableError
from shared.redis.node import Command, MovedError, Node, Value
from shared.redis.script import Script
from shared.redis.server_info import Server

_log = structlog.get_logger(__name__)

_REDIRECTS = 3
"""How often a call follows a slot that keeps moving."""

_REFRESH_SECONDS = 0.5
"""The slots are read at most this often, whatever fails."""

_Address = tuple[str, int]
AnswerT = TypeVar("AnswerT")


class Cluster:
    """The masters of a cluster. Each has its own connections and may be unavailable on its own.

    redis-py's cluster client is not suitable: it repeats a call when a connection breaks, which would enqueue people
    twice, and it sends WAIT to another node than the write that has to be waited for.
    """

    clustered: Literal[True] = True

    def __init__(self, seeds: Sequence[_Address], connect: Callable[[str, int], Node], prefix: str) -> None:
        self._seeds = seeds
        self._connect = connect
        self._prefix = prefix
        self._nodes: dict[_Address, Node] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._slot = lru_cache(maxsize=4096)(lambda key: key_slot(key.encode()))
        self._lock = asyncio.Lock()
        self._refreshed = float("-inf")
        self._failure: UnavailableError | None = None
        self._trouble = asyncio.Event()

    @property
    def trips(self) -> dict[str, int]:
        """Round trips by kind, to every node."""
        counts = [node.trips for node in self._nodes.values()]
        return {kind: sum(count[kind] for count in counts) for kind in ("lua", "pipeline", "command")}

    @property
    def busy(self) -> int:
        """Connections in use."""
        return sum(node.busy for node in self._nodes.values())

    @property
    def away(self) -> int:
        """How many masters did not answer the last call to them; 1 if the masters are not known."""
        return sum(node.away for node in self._masters()) or int(self._failure is not None)

    def is_away(self, key: str) -> bool:
        """Whether the master of this key did not answer the last call to it."""
        owner = self._owners[self._slot(key)]
        return self._failure is not None if owner is None else owner.reachable is False

    async def command(self, *command: Value) -> Any:
        """One command's reply; its key comes first."""
        return await self._ask(str(command[1]), lambda node: node.command(*command))

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The replies of commands on one key's slot, which share a round trip and a connection."""
        return await self._ask(str(commands[0][1]), lambda node: node.pipeline(commands))

    async def script(self, script: Script, keys: Sequence[str], *args: Value, acks: int = 0) -> Any:
        """A Lua step's reply, once `acks` replicas of its node have what it wrote."""
        return await self._ask(keys[0], lambda node: node.script(script, keys, *args, acks=acks))

    async def watch(self) -> None:
        """Until cancelled: when a master fails or a slot has moved, reads the slots again and probes failed masters."""
        while True:
            await self._trouble.wait()
            self._trouble.clear()
            try:
                await self._refresh()
                await asyncio.gather(*(self._probe(node) for node in self._masters() if node.reachable is False))
            except UnavailableError:
                self._trouble.set()
            except Exception:  # noqa: BLE001 - any error: a process that stopped watching would never recover
                _log.exception("the cluster's slots could not be read")
                self._trouble.set()
            # Jitter spreads the reconnects of a fleet.
            await asyncio.sleep(random.uniform(0.5, 1.0))

    async def servers(self) -> list[Server]:
        """What INFO says of every master."""
        await self._refresh()
        return [server for node in self._masters() for server in await node.servers()]

    async def aclose(self) -> None:
        """Closes every connection."""
        for node in self._nodes.values():
            await node.aclose()

    async def _ask(self, key: str, call: Callable[[Node], Awaitable[AnswerT]]) -> AnswerT:
        slot = self._slot(key)
        for _ in range(_REDIRECTS):
            node = self._owners[slot]
            if node is None or node.reachable is False:
                await self._refresh()
                node = self._owners[slot]
            if node is None:
                raise UnavailableError("no node serves this event's slot")
            try:
                return await call(node)
            except MovedError as moved:
                # Other slots have probably moved too, but only this one is certain.
                self._owners[slot] = self._node(moved.host, moved.port)
                self._trouble.set()
            finally:
                if node.reachable is False:
                    self._trouble.set()
        raise UnavailableError("this event's slot is being moved")

    def _masters(self) -> set[Node]:
        return {node for node in set(self._owners) if node}

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._refreshed >= _REFRESH_SECONDS:
                await self._learn_from_any()
                self._refreshed = time.monotonic()
        if self._failure:
            self._trouble.set()
            raise UnavailableError("no node of the cluster answers") from self._failure

    async def _learn_from_any(self) -> None:
        known = [node for node in self._masters() if node.reachable is not False]
        random.shuffle(known)
        for node in [*known, *(self._node(*seed) for seed in self._seeds), *self._nodes.values()]:
            try:
                await self._learn(node)
            except UnavailableError as error:
                self._failure = error
            else:
                self._failure = None
                return

    async def _learn(self, node: Node) -> None:
        """Takes over a node's view of the slots; raises UnavailableError if it has none."""
        try:
            ranges = await node.command("CLUSTER", "SLOTS")
        except ResponseError as error:
            raise UnavailableError(f"{node.host} is no node of a cluster") from error
        if not ranges:
            raise UnavailableError(f"{node.host} knows of no slots")
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in ranges:
            # A node that does not know its own name leaves it empty.
            owner = self._node(host.decode() if host else node.host, port)
            owners[first : last + 1] = [owner] * (last + 1 - first)
        before = self._masters()
        self._owners = owners
        masters = self._masters()
        demoted = before - masters
        if masters != before:
            names = sorted(f"{host}:{port}" for (host, port), node in self._nodes.items() if node in masters)
            _log.info("these are the masters of the cluster", masters=names)
        for one in demoted:
            await one.disconnect()

    async def _probe(self, node: Node) -> None:
        """Asks a node that was unavailable whether it accepts writes again, with one that changes nothing."""
        slots = (f"{self._prefix}probe:{{{number}}}" for number in itertools.count())
        key = next(key for key in slots if self._owners[key_slot(key.encode())] is node)
        try:
            await node.command("UNLINK", key)
        except UnavailableError:
            self._trouble.set()

    def _node(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:
            node = self._nodes[host, port] = self._connect(host, port)
        return node
