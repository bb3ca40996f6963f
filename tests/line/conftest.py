"""An event as its people and its workers see it, on real Redis and a clock that tests move."""

from collections.abc import Callable, Iterator

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.line import Join, Line
from shared.line.replies import EnterCode, Entered, JoinCode, Joined, Polled, Reaped, Standing
from tests.conftest import Clock, MakeLine
from tests.support.cluster import Cluster
from tests.support.cluster_node import Node
from workers.jobs.repair import repair_event

LIFE = 300.0
"""The default heartbeat life, in seconds."""

GAP_MS = 30_000
"""The default gap from which missing sweeps or pulses are an interruption."""

BATCH = 256
"""As many as an ingress puts in one call."""


@pytest.fixture(scope="session", params=["server", "cluster"])
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """All that is tested here holds on both: a cluster of one node is as strict about slots as one of many."""
    if request.param == "server":
        with RedisServer() as server:
            yield server
    else:
        with Cluster(masters=1, replicas=0) as cluster:
            yield cluster.nodes[0]


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """What DAEGI_REDIS_URL is for it."""
    return f"redis+cluster://{LOCALHOST}:{redis_server.port}" if isinstance(redis_server, Node) else redis_server.url


class Room:
    """One event; every method does what an ingress, or a worker, does for one batch."""

    def __init__(self, line: Line, event: str, redis: Redis, clock: Clock) -> None:
        self.line, self.event, self.redis, self.clock = line, event, redis, clock
        self.keys = line.keys.event(event)

    @property
    def now(self) -> int:
        """In ms."""
        return self.clock.now // 1000

    async def enqueue(self, *joins: Join, may_create: bool = True) -> list[Joined]:
        """Both round trips of a batch of joins."""
        done = await self.line.enqueue(self.event, joins, may_create)
        present = [one.ticket for one in done.joined if one.code in {JoinCode.NEW, JoinCode.IN_LINE}]
        in_passing = self.line.notes_activity
        await self.line.confirm(self.event, present, done.standing.now, note_activity=in_passing)
        if not in_passing:
            await self.line.note_activity([self.event], done.standing.now)
        return done.joined

    async def join(self, count: int = 1, who: bytes = b"") -> list[int]:
        """So many people without a key; their tickets."""
        tickets: list[int] = []
        for start in range(0, count, BATCH):
            some = min(BATCH, count - start)
            tickets += [one.ticket for one in await self.enqueue(*[Join(b"", who)] * some)]
        return tickets

    async def poll(self, *tickets: int, grace: bool = False) -> list[Polled]:
        """Where they stand."""
        return (await self.line.poll(self.event, tickets, grace=grace))[1]

    async def positions(self, *tickets: int) -> list[int]:
        """Their places, as a poll of them all says."""
        return [polled.position for polled in await self.poll(*tickets)]

    async def enter(self, *tickets: int) -> list[Entered]:
        """They try to come in."""
        return (await self.line.enter(self.event, tickets))[1]

    async def admit(self, *tickets: int) -> list[int]:
        """They try to come in; who was let in."""
        entered = await self.enter(*tickets)
        return [ticket for ticket, one in zip(tickets, entered, strict=True) if one.code == EnterCode.GRANTED]

    async def leave(self, *tickets: int) -> int:
        """They go."""
        return await self.line.leave(self.event, tickets)

    async def reap(self, interrupted: int = 0) -> Reaped:
        """One visit of a sweep."""
        return await self.line.reap(self.event, interrupted=interrupted, longest_gap=GAP_MS)

    async def sweep(self, seconds: float, *pollers: int, poll_every: float = 30) -> int:
        """Visits every 5 s for so long, while pollers poll; how many were expired."""
        expired = 0
        for visit in range(1, round(seconds / 5) + 1):
            self.clock.advance(5)
            if pollers and visit * 5 % poll_every == 0:
                await self.poll(*pollers)
            more = True
            while more:
                reaped = await self.reap()
                expired, more = expired + reaped.expired, reaped.more
        return expired

    async def repair(self) -> None:
        """What the job does for an event."""
        await repair_event(self.line, self.event)

    async def standing(self) -> Standing:
        """How the event stands; changes nothing."""
        return (await self.line.describe(self.event)).standing

    async def totals(self) -> dict[str, int]:
        """What it has counted."""
        return (await self.line.describe(self.event)).totals

    async def waiting(self) -> list[int]:
        """The line, first to last."""
        return [int(ticket) for ticket in await self.redis.zrange(self.keys.queue, 0, -1)]

    async def called(self) -> list[int]:
        """Whose turn it is, in ticket order."""
        return sorted(int(ticket) for ticket in await self.redis.zrange(self.keys.called, 0, -1))

    async def absent(self) -> list[int]:
        """Who stepped aside, in ticket order."""
        return [int(ticket) for ticket in await self.redis.zrange(self.keys.absent, 0, -1)]

    async def fields(self, key: str) -> dict[str, str]:
        """A whole hash."""
        return dict(await self.redis.execute_command("HGETALL", key))

    async def logged(self) -> dict[int, str]:
        """The log: ticket -> who, in its order."""
        entries = await self.redis.xrange(self.keys.stream)
        return {int(ms) * 1000 + int(seq): fields["u"] for (ms, seq), fields in _split(entries)}


def _split(entries: list[tuple[str, dict[str, str]]]) -> list[tuple[list[str], dict[str, str]]]:
    return [(entry_id.split("-"), fields) for entry_id, fields in entries]


MakeRoom = Callable[..., Room]


@pytest.fixture
def make_room(make_line: MakeLine, event: str, redis: Redis, clock: Clock) -> MakeRoom:
    """Views of one event through lines with the settings given, each with connections of its own."""

    def make(**settings: object) -> Room:
        return Room(make_line(**settings), event, redis, clock)

    return make


@pytest.fixture
def room(make_room: MakeRoom) -> Room:
    """With the default settings: 50 people a second, 500 at once."""
    return make_room()


@pytest.fixture
def closed(make_room: MakeRoom) -> Room:
    """One whose door never calls anybody, because it lets in nobody."""
    return make_room(admit_rate=0, admit_burst=0)
