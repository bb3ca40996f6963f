"""A master is killed and its replica takes over while people join and poll."""

import asyncio
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.cluster.conftest import KEYS, Seen, dispensable
from tests.cluster.regulars import Regular, asking
from tests.support.calls import running, status, try_join, try_status
from tests.support.cluster import Cluster, spread
from tests.support.cluster_node import Node
from tests.support.line_state import fill
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.settings import CLOSED, SECRET
from tests.support.waiting import eventually

FAILS_OVER = True

VICTIMS: dict[str, Callable[[Cluster], Node]] = {
    "with events alone": dispensable,
    "with the list of events": lambda cluster: cluster.master_of(KEYS.events),
    "with the pulses": lambda cluster: cluster.master_of(KEYS.pulse),
}


async def has_index(http: httpx.AsyncClient, master: Node, token: str) -> None:
    """Polls until the process has asked for the index that bridges an outage."""
    async with Monitor(master.url) as monitor:

        async def asked() -> bool:
            await status(http, token)
            return any(command.startswith("GET position_index") for command in await monitor.commands())

        await eventually(asked)


@pytest.mark.parametrize("victim", VICTIMS)
async def test_events_on_other_masters_do_not_notice_and_leases_bridge_the_gap(
    cluster: Cluster, cluster_line: Line, queue_server: RedisServer, event: str, victim: str
) -> None:
    signer, killed = Signer([SECRET]), VICTIMS[victim](cluster)
    events = spread(cluster, event)
    api = Api(cluster.url, jobs_redis_url=queue_server.url, **CLOSED)
    people: dict[str, dict[str, Regular]] = {}
    tokens = {}
    async with running(api) as http:
        for name, master in events.items():
            *_, last = await fill(cluster_line, name, 5)
            await cluster_line.publish_index(name)
            now = Seen(cluster, name).now()
            fresh = signer.waiting(name, last, now)
            tokens[name] = old = signer.waiting(name, last, now - 80_000)
            await has_index(http, master, fresh)
            people[name] = {
                "joins": Regular(partial(try_join, http, name)),
                "polls": Regular(partial(try_status, http, old)),
                "polls under a lease": Regular(partial(try_status, http, fresh)),
            }
        async with asking(one for some in people.values() for one in some.values()):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(cluster.fail_over, killed)

            async def all_served() -> bool:
                return {(await try_join(http, name)).status_code for name in events} == {202}

            await eventually(all_served)
        for name, master in events.items():
            seen = {what: one.answers for what, one in people[name].items()}
            if master is killed:
                # Who asks in the very moment may be told to ask again, under a lease too.
                assert all(seen[what][503] > 3 for what in ("joins", "polls")), seen
                assert seen["polls under a lease"][503] <= 3, seen
            else:
                assert [list(answers) for answers in seen.values()] == [[202], [200], [200]], seen
            assert (await status(http, tokens[name]))["position"] == 5
        assert "Traceback" not in api.log()
