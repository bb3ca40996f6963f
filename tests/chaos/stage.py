"""What a scenario runs on: its own Redis, api and workers, a crowd in front, and the audit at the end."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.chaos.crowd import Crowd
from tests.chaos.gauge import Gauge
from tests.chaos.ledger import DOUBLE, LOST, Ledger
from tests.chaos.ledger_audit import Audit
from tests.chaos.outcome import Outcome
from tests.chaos.person import USER_HEADER, World
from tests.support.balancer import Balancer
from tests.support.browser import Client
from tests.support.paths import ROOT
from tests.support.processes import Api, Process, Worker
from tests.support.relay import Relay
from tests.support.settings import HEARTBEAT_TTL
from tests.support.threads import in_thread

EVENT: Final = "chaos"
SETTINGS: Final[dict[str, Any]] = {
    "heartbeat_ttl": HEARTBEAT_TTL,
    "ready_ttl": 2,
    "call_fresh": 1,
    "pass_ttl": HEARTBEAT_TTL,
    "admit_rate": 25,
    "admit_burst": 50,
    "trusted_user_header": USER_HEADER,
}
RATE: Final = 40.0
"""People who come per second; more than are let in, so that there is a line."""
_TOLD: Final = 10
"""Misses that are told one by one."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A plain client of a Redis, for reading and for damage."""
    client = Redis.from_url(url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


class Stage:
    """Everything that it starts is ended when it is closed."""

    def __init__(self, outcome: Outcome, seconds: float, seed: int, times: int = 0) -> None:
        self.outcome = outcome
        self.random = random.Random(seed)
        self.gauge = Gauge()
        self.ledger = Ledger(HEARTBEAT_TTL)
        self.crowd: Crowd | None = None
        self.seconds = seconds
        """Seconds during which there are faults; longer if there have not been `times` of them by then."""
        self.times = times
        self.says = "begins"
        """The progress to show while there is no crowd."""
        self._began = time.monotonic()
        self._stack = AsyncExitStack()
        self._processes: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for process in self._processes:
            if "Traceback" in process.log():
                self.outcome.failures.append(f"a traceback in the log of {process.module}: {process.log()[-2000:]}")
        await self._stack.aclose()
        self.outcome.seconds = self.outcome.seconds or time.monotonic() - self._began

    # What there is to play on

    async def redis(self, fsync: str = "always", *options: str) -> RedisServer:
        """A Redis with an append-only file, written at every change or as `fsync` says."""
        server = RedisServer()
        await in_thread(server.start, None, None, "--appendfsync", fsync, *options, appendonly=True)
        self._stack.push_async_callback(in_thread, server.close)
        return server

    async def relay(self, server: RedisServer) -> Relay:
        """A relay in front of a Redis."""
        return await self._stack.enter_async_context(Relay(server.port))

    async def api(self, redis_url: str, *, root: Path = ROOT, **settings: Any) -> Api:
        """An api process with the code in a folder."""
        api = Api(redis_url, **{**SETTINGS, **settings})
        api.root = root
        await self._run(api)
        return api

    async def worker(self, redis_url: str, *, root: Path = ROOT, **settings: Any) -> Worker:
        """A worker process with the code in a folder."""
        worker = Worker(redis_url, **{**SETTINGS, **settings})
        worker.root = root
        await self._run(worker)
        return worker

    async def folder(self) -> Path:
        """A new one."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="daegi-chaos-")))

    async def balancer(self) -> Balancer:
        """A balancer without backends."""
        return await self._stack.enter_async_context(Balancer())

    async def fleet(self, redis_url: str, *, apis: int = 2, workers: int = 1, **settings: Any) -> list[Api]:
        """Api processes, and workers beside them, which start at the same time."""
        others = asyncio.gather(*(self.worker(redis_url, **settings) for _ in range(workers)))
        started = await asyncio.gather(*(self.api(redis_url, **settings) for _ in range(apis)))
        await others
        return list(started)

    async def _run(self, process: Process) -> None:
        self._stack.push_async_callback(in_thread, process.__exit__, None, None, None)
        self._processes.append(process)
        await in_thread(process.start)

    # Who comes

    def begin(self) -> None:
        """The seconds of faults are counted from now on."""
        self._began = time.monotonic()

    @asynccontextmanager
    async def people(
        self,
        ports: Sequence[int],
        redis: Any,
        *,
        rate: float = RATE,
        events: Sequence[str] = (EVENT,),
        keep: float = 60,
        listening: float = 0.0,
    ) -> AsyncIterator[Crowd]:
        """A crowd. When the block ends it gets its answers and stops, and its promises are audited.

        `redis` is the URL of the Redis with the lines, or a client of it. People reuse a connection within `keep`
        seconds; a share of them listens instead of polling.
        """
        client = Client(ports, keep)
        world = World(client, self.ledger, self.gauge, self.random)
        self.crowd = Crowd(world, events, rate, listening)
        self.begin()
        try:
            async with self.crowd:
                yield self.crowd
            self._count(self.crowd)
            async with connected(redis) if isinstance(redis, str) else nullcontext(redis) as opened:
                audit = Audit(self.ledger, opened, client)
                await audit.run(events)
                self.outcome.totals = audit.totals
            self.judge()
        finally:
            client.close()

    async def faults(self, least: float, most: float) -> AsyncIterator[int]:
        """Numbers from 0, each after a random pause, until the time is over and there have been enough of them."""
        number, until = 0, self._began + self.seconds
        while True:
            await asyncio.sleep(self.random.uniform(least, most))
            if time.monotonic() >= until and number >= self.times:
                return
            self.outcome.faults += 1
            yield number
            number += 1

    def expect(self, kept: bool, text: str) -> None:
        """Records a failure unless `kept`."""
        if not kept:
            self.outcome.failures.append(text)

    def judge(self) -> None:
        """Makes failures of the promises that were not kept, as the ledger has them."""
        outcome, misses = self.outcome, list(self.ledger.unforgiven())
        outcome.lost, outcome.double = self.ledger.count(LOST), self.ledger.count(DOUBLE)
        if self.ledger.forgiven:
            promises = sum(1 for place in self.ledger.places.values() for _ in place.promises())
            kept = f"of {promises:,} promises {outcome.lost + outcome.double} were not kept, {len(misses)} unforgiven"
            outcome.notes.append(kept)
        outcome.failures += [f"{miss.kind}: {miss.text}" for miss in misses[:_TOLD]]
        if len(misses) > _TOLD:
            outcome.failures.append(f"and {len(misses) - _TOLD} more of that kind")

    def _count(self, crowd: Crowd) -> None:
        gauge, outcome = self.gauge, self.outcome
        outcome.seconds, outcome.people, outcome.requests = crowd.seconds, crowd.people, gauge.requests
        outcome.refused, outcome.broken, outcome.unconnected = gauge.refused, gauge.broken, gauge.unconnected
        outcome.refusals = dict(gauge.refusals)
        outcome.gap, outcome.longest_wait = gauge.worst_gap(), gauge.longest_wait()
        self.expect(not crowd.unanswered, f"{crowd.unanswered} people had no answer at the end")
