"""Where the machine's steps take place: an event on real Redis, its model, a witness, and a clock that they move."""

from collections.abc import Coroutine, Iterable
from functools import cache
from itertools import count
from typing import Any

import uvloop
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from redis.asyncio import Redis

from api.serving.clock import RedisClock
from shared.line.line import Line
from shared.line.replies import Described
from shared.redis.connect import connect
from shared.redis.node import Node
from shared.settings import Settings
from tests.conftest import Clock
from tests.line.model.gate import Job
from tests.line.model.seen import Seen, differences, look
from tests.line.model.twin import Call, Deed, Twin
from tests.line.model.upkeep import Model
from tests.line.model.witness import Witness

EVENT = "model"
AT_ONCE, KNOWN = 3, 40

_numbers = count(1)


@cache
def _settings(url: str, rate: float, burst: float) -> Settings:
    return Settings.model_validate({"redis_url": url, "admit_rate": rate, "admit_burst": burst})


class Machine(RuleBasedStateMachine):
    """One example: after every step both hold the same, and the witness has seen every promise kept."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.jobs: list[Job] = []
        self.late: list[Call] = []
        self.known: list[int] = [1]
        self.deeds: list[Deed] = []
        self.published: dict[int, list[dict[int, int]]] = {}
        """When an index was, and who then had which place in line."""
        self.redis_clock = RedisClock()

    @initialize(rate=st.sampled_from([0, 0.5, 3]), burst=st.sampled_from([0, 5.5, 40]))
    def begin(self, rate: float, burst: float) -> None:
        plain = _settings(self.url, rate, burst)
        self.settings = plain.model_copy(update={"key_prefix": f"{next(_numbers)}:"})
        self.clock = Clock()
        self.clients = [self._connect() for _ in range(AT_ONCE)]
        self.lines = [Line(client, self.settings, self.clock) for client in self.clients]
        self.redis = Redis.from_url(self.url)
        self.keys = self.lines[0].keys.event(EVENT)
        self.model = Model(self.clock.now, rate, burst)
        self.witness = Witness(rate, burst)
        self.twin = Twin(self.lines[0], self.model, EVENT, self.deeds)

    def _connect(self) -> Node:
        client = connect(self.settings, "daegi-tests")
        assert isinstance(client, Node)
        return client

    def teardown(self) -> None:
        if hasattr(self, "twin"):
            self.run(self._close())
        self.loop.close()

    async def _close(self) -> None:
        for job in self.jobs:
            await job.die()
        for client in (*self.clients, self.redis):
            await client.aclose()

    def run(self, asked: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asked)

    def ask(self, name: str, *args: Any, **options: Any) -> Any:
        """One step of both; what it told."""
        return self.run(self.twin.ask(name, *args, **options))

    def step(self, name: str, *args: Any, **options: Any) -> Any:
        """One step of both, after which both are looked at; what it told."""
        told = self.ask(name, *args, **options)
        self.run(self.check())
        return told

    def know(self, tickets: Iterable[int]) -> None:
        """These have been given."""
        self.known = sorted({*self.known, *tickets})[-KNOWN:]

    def something_arrives(self, pick: int) -> None:
        """That was sent earlier, if anything was."""
        if self.late:
            name, args, options = self.late.pop(pick % len(self.late))
            self.step(name, *args, **options)

    def later(self, name: str, *args: Any, **options: Any) -> None:
        """It may come late, and more than once."""
        self.late = [*self.late, Call(name, args, options)][-8:]

    def move(self, milliseconds: int) -> None:
        """The clock."""
        self.clock.advance(milliseconds / 1000)
        self.model.us = self.clock.now
        self.witness.time_moves(max(0, milliseconds))

    def lose(self, lost: set[str]) -> None:
        """Keys of these names."""
        self.run(self.redis.delete(*(getattr(self.keys, name) for name in lost)))
        self.model.lose(lost)
        self.witness.rebuild_requested &= "state" not in lost
        self.witness.keys_are_lost(self.run(look(self.redis, self.keys)))
        if self.model.newest is None and self.model.state.last is None:
            self.witness.all_numbers_are_lost()

    def lose_entries(self, tickets: set[int]) -> None:
        """Those of these tickets in the log."""
        for ticket in tickets & self.model.log.keys():
            self.run(self.redis.xdel(self.keys.stream, "{}-{}".format(*divmod(ticket, 1000))))
            del self.model.log[ticket]
        self.witness.keys_are_lost(self.run(look(self.redis, self.keys)))

    def lose_members(self, tickets: set[int]) -> None:
        """These, from wherever they are."""
        for ticket in tickets:
            for key in (self.keys.queue, self.keys.called, self.keys.absent):
                self.run(self.redis.zrem(key, ticket))
            self.model.line.discard(ticket)
            self.model.absent.discard(ticket)
            self.model.called.pop(ticket, None)
        self.witness.keys_are_lost(self.run(look(self.redis, self.keys)))

    def configure(self, changes: dict[str, str]) -> None:
        """As an operator does."""
        self.step("configure", changes | {"declared": "1"})
        self.note_settings()

    def note_settings(self) -> None:
        """For the witness."""
        self.witness.settings_change(
            float(self.model.config.get("rate", self.settings.admit_rate)),
            float(self.model.config.get("burst", self.settings.admit_burst)),
        )

    @invariant()
    def both_hold_the_same_and_promises_are_kept(self) -> None:
        if self.deeds:
            self.run(self.check())

    async def check(self) -> None:
        """After a step."""
        seen, described = await self.look()
        differing = differences(self.model, seen, described)
        assert not differing, f"Redis and the model differ: {differing}"
        deeds, self.deeds[:] = list(self.deeds), []
        self.witness.judge(seen, deeds, self.model.now, self.model.pass_ttl)

    async def look(self) -> tuple[Seen, Described]:
        """At Redis, changing nothing."""
        return await look(self.redis, self.keys), await self.lines[0].describe(EVENT)
