"""Every script and every pipeline keeps to one slot: each call of the line works on each master of a cluster.

A new method of Line, or a new script, without its call here makes a test fail.
"""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.line.line import Join, Line, Renewal
from shared.line.replies import RelogCode
from shared.redis.connect import connect
from shared.settings import Settings
from tests.cluster.conftest import Seen
from tests.support.cluster import Cluster, spread
from tests.support.paths import ROOT
from tests.support.redis_version import script_in_force

SCRIPTS = {path.stem for path in (ROOT / "shared" / "line" / "lua").glob("*.lua")}
OF_NO_EVENT = {"begin_sweep", "end_sweep", "fleet", "forget", "pulse"}
CALLS = {name for name, call in vars(Line).items() if inspect.iscoroutinefunction(call) and not name.startswith("_")}


class Calls:
    """The calls of a line, and the names of those that were made."""

    def __init__(self, line: Line) -> None:
        self.made: set[str] = set()
        self._line = line

    def __getattr__(self, name: str) -> Any:
        self.made.add(name)
        return getattr(self._line, name)


@pytest.fixture
async def calls(cluster: Cluster) -> AsyncIterator[Calls]:
    """Of a line whose joins, enters and redeems wait for a replica."""
    settings = Settings.model_validate(
        {"redis_url": cluster.url, "jobs_redis_url": "redis://127.0.0.1:1/0", "min_replicas_ack": 1}
    )
    client = connect(settings, "daegi-tests")
    yield Calls(Line(client, settings))
    await client.aclose()


async def live(line: Calls, event: str, seen: Seen) -> None:
    """An event from its declaration to its end."""
    await line.configure(event, {"declared": "1", "rate": "1"})
    joins = [Join(b"a digest %d" % number, b"vsomebody%d" % number) for number in range(5)]
    batch = await line.enqueue(event, joins, may_create=False)
    tickets = [joined.ticket for joined in batch.joined]
    await line.confirm(event, tickets, batch.standing.now, note_activity=False)
    assert [polled.position for polled in (await line.poll(event, tickets))[1]] == [1, 2, 3, 4, 5]
    [entered] = (await line.enter(event, tickets[:1]))[1]
    assert (await line.redeem(event, tickets[0], entered.issued)).who == b"vsomebody0"
    assert (await line.renew(event, [Renewal(tickets[0], entered.until, entered.entered)])).ends[0] > entered.until
    assert await line.release(event, tickets[:1]) == 1
    assert (await line.ended(event, -1)).tickets == {tickets[0]}
    assert (await line.walk_in(event)) is not None
    assert await line.room(event) is not None
    assert await line.leave(event, tickets[1:2]) == 1
    assert await line.refresh(event, tickets[2:]) == 3
    assert await line.publish_index(event)
    assert (await line.index(event)).standing.waiting == (await line.describe(event)).standing.waiting
    assert not await line.request_log_rebuild(event)
    assert not (await line.inspect(event)).standing.damaged
    assert (await line.repair(event)).written == 0

    seen.redis.delete(seen.keys.stream)
    members, users = await line.members(event), await line.known_users(event)
    assert members == tickets[2:]
    assert await line.relog(event, [(ticket, users[ticket]) for ticket in members], begin=True) == RelogCode.WRITTEN
    assert await line.relog(event, [], finish=True) == RelogCode.DONE
    assert seen.logged() == tickets[2:]
    assert not (await line.reap(event, interrupted=0, longest_gap=30_000)).unlinked


async def test_every_call_and_every_script_work_on_every_master(cluster: Cluster, calls: Calls, event: str) -> None:
    for node in cluster.nodes:
        node.client.script_flush()
    events = spread(cluster, event)
    for name in events:
        await live(calls, name, Seen(cluster, name))
    assert await calls.note_activity(list(events), 1_800_000_000_000) == await calls.count_events() == 3
    assert sorted(await calls.events(0, 10)) == [(name, 1_800_000_000_000) for name in sorted(events)]
    assert await calls.forget(event + "-1", 1_800_000_000_000)
    pulse = await calls.pulse("-a-test")
    assert (await calls.fleet(3000)).alive == 1
    await calls.deregister(pulse.process)
    assert await calls.begin_sweep("a worker", 5000) == ""
    assert await calls.end_sweep("a worker", "")
    assert await calls.warnings() is not None
    assert len({server.address for server in await calls.servers()}) == len(cluster.masters)

    assert calls.made == CALLS
    for script in SCRIPTS:
        known = [node.knows(script_in_force(script).sha) for node in cluster.masters]
        assert known == [True, True, True] if script not in OF_NO_EVENT else any(known), script
