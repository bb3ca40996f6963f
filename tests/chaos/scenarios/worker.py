"""What happens to workers."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from shared.line.keys import Keys
from tests.chaos.stage import EVENT, Stage, connected
from tests.support.processes import Worker
from tests.support.redis_version import script_in_force
from tests.support.relay import Relay
from tests.support.threads import in_thread

SCRIPTS: Final = ("index", "refresh", "repair", "reap", "begin_sweep", "end_sweep", "inspect")
"""A script of each job, and one of the sweep."""
PATIENCE: Final = 6.0
"""Seconds within which a worker has to call such a script."""
FAR_BACK: Final = 1500
"""Enough people that some are polled from memory, and have their heartbeats written by a job."""


async def killed(stage: Stage) -> None:
    """SIGKILL in each job in turn, before or after Redis executes its script; the other worker does the job."""
    redis = await stage.redis("everysec")
    apis = await stage.fleet(redis.url, workers=0, admit_rate=10)
    pairs = []
    for _ in range(2):
        relay = await stage.relay(redis)
        pairs.append((relay, await stage.worker(relay.url, jobs_redis_url=redis.url, admit_rate=10)))
    caught: Counter[str] = Counter()
    async with connected(redis.url) as client, stage.people([api.port for api in apis], redis.url) as crowd:
        crowd.burst(FAR_BACK)
        async for number in stage.faults(0.2, 1):
            name = SCRIPTS[number % len(SCRIPTS)]
            if name == "repair":
                await damage(client, stage.random)
            if victim := await caught_in(name, pairs, before=stage.random.random() < 0.5):
                caught[name] += 1
                await in_thread(victim.kill)
            for relay, _ in pairs:
                relay.holding = relay.trap = b""
                relay.held = False
            if victim:
                await in_thread(victim.start)
    tried, stage.outcome.faults = stage.outcome.faults, caught.total()
    stage.outcome.notes.append("killed in " + ", ".join(f"{name} {count}" for name, count in caught.items()))
    # Not every attempt finds a worker in the job: at most one job is missing.
    stage.expect(len(caught) >= min(tried, len(SCRIPTS)) - 1, "workers were not killed in every job")


async def caught_in(name: str, pairs: Sequence[tuple[Relay, Worker]], *, before: bool) -> Worker | None:
    """A worker that is about to call a script or has just called it; None if there is none."""
    sha = script_in_force(name).sha.encode()
    kept = [relay.kept for relay, _ in pairs]
    for relay, _ in pairs:
        relay.holding, relay.trap = (sha, b"") if before else (b"", sha)
    for _ in range(round(PATIENCE / 0.01)):
        for (relay, worker), had in zip(pairs, kept, strict=True):
            if relay.held or relay.kept > had:
                return worker
        await asyncio.sleep(0.01)
    return None


async def damage(client: Any, draw: random.Random) -> None:
    """Removes something that repair writes back."""
    keys = Keys().event(EVENT)
    await client.delete(draw.choice((keys.queue, keys.heartbeat, keys.places)))
