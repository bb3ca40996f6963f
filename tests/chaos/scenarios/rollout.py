"""Two versions side by side: the processes are replaced one by one, to the next version and back again."""

from contextlib import closing
from pathlib import Path

from tests.chaos.stage import Stage
from tests.support.browser import Client
from tests.support.paths import ROOT
from tests.support.processes import Api, Worker
from tests.support.threads import in_thread
from tests.support.versions import write_next_version

DRAIN = 1.5
"""Longer (s) than people keep a connection, and than the balancer needs to notice."""
KEEP = 0.5


async def rolling(stage: Stage) -> None:
    """No request is lost: the old process or the new one answers it."""
    redis = await stage.redis("everysec")
    newer = await stage.folder()
    await in_thread(write_next_version, newer)
    balancer = await stage.balancer()
    running: list[tuple[Api, Worker]] = []

    async def start(root: Path) -> None:
        api = await stage.api(redis.url, root=root, drain_seconds=DRAIN)
        with closing(Client([api.port])) as client:
            health = await client.ask("GET", "/healthz")
        stage.expect(health.body.get("version") == (None if root == ROOT else "next"), "this is not the other version")
        balancer.add(api.port)
        await balancer.until_ready(api.port)
        running.append((api, await stage.worker(redis.url, root=root)))

    for _ in range(2):
        await start(ROOT)
    async with stage.people([balancer.port], redis.url, keep=KEEP):
        async for number in stage.faults(0.2, 1):
            await start(newer if number % 4 < 2 else ROOT)
            api, worker = running.pop(0)
            stage.expect(await in_thread(api.stop) == 0, "an api process did not end in good order")
            balancer.remove(api.port)
            stage.expect(await in_thread(worker.stop) == 0, "a worker did not end in good order")
    stage.expect(not balancer.turned_away, f"{balancer.turned_away} connections found no process that was ready")
    stage.expect(not stage.gauge.broken, f"{stage.gauge.broken} requests were not answered")
    stage.expect(not stage.gauge.refused, f"{stage.gauge.refused} requests were refused")
