"""Any sequence of steps, on a clock that may jump, does on real Redis what the model in plain Python does."""

import asyncio
from collections.abc import Awaitable
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from shared.embedded import RedisServer
from shared.line import Join, Line
from shared.redis_client import connect
from shared.settings import Settings
from tests.conftest import Clock
from tests.line.conftest import Room
from tests.line.model import Model

_events = count(1)
_picks = st.lists(st.integers(0, 1000), max_size=12)
_users = st.sampled_from(["", "ulabel", "vann", "vbob", "vcho", "v대기"])
_joins = st.lists(st.tuples(st.none() | st.integers(1, 6), _users), min_size=1, max_size=12)
_members = st.sampled_from(["queue", "called", "absent", "places"])


class Machine(RuleBasedStateMachine):
    """Does everything to both."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._tickets: list[int] = [1]

    @initialize(rate=st.sampled_from([0, 0.5, 3]), burst=st.sampled_from([0, 5, 40]))
    def begin(self, rate: float, burst: float) -> None:
        made = Settings.model_validate({"redis_url": self.url, "admit_rate": rate, "admit_burst": burst})
        self._client = connect(made, "daegi-tests")
        self._looking = Redis.from_url(self.url, decode_responses=True)
        self.clock = Clock()
        self.room = Room(Line(self._client, made, self.clock), f"model-{next(_events)}", self._looking, self.clock)
        self.model = Model(self.clock.now, rate, burst)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.run(self._client.aclose())
            self.run(self._looking.aclose())
        self._runner.close()

    def run(self, asked: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await asked

        return self._runner.run(wait())

    def pick(self, picks: list[int]) -> list[int]:
        return [self._tickets[pick % len(self._tickets)] for pick in picks]

    @rule(milliseconds=st.sampled_from([1, 400, 1000, 5999, 6000, 20_000, 45_000, 89_999, 150_000, 301_000, 3_600_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)
        self.model.us = self.clock.now

    @rule(seconds=st.sampled_from([0.001, 3, 100, 10_000]))
    def the_clock_jumps_back(self, seconds: float) -> None:
        self.clock.advance(-seconds)
        self.model.us = self.clock.now

    @rule(joins=_joins)
    def people_join(self, joins: list[tuple[int | None, str]]) -> None:
        asked = [
            Join(bytes([key] * 16) + who.encode().rjust(8, b"~")[:8] if key else b"", who.encode())
            for key, who in joins
        ]
        joined = self.run(self.room.enqueue(*asked))
        assert joined == self.model.join(joins)
        self._tickets = sorted({*self._tickets, *(one.ticket for one in joined)})[-60:]

    @rule(picks=_picks, grace=st.booleans())
    def people_poll(self, picks: list[int], grace: bool) -> None:
        tickets = self.pick(picks)
        assert self.run(self.room.poll(*tickets, grace=grace)) == self.model.poll(tickets, grace=grace)

    @rule()
    def everybody_polls(self) -> None:
        assert self.run(self.room.poll(*self._tickets)) == self.model.poll(self._tickets, grace=False)

    @rule(picks=_picks)
    def people_enter(self, picks: list[int]) -> None:
        tickets = self.pick(picks)
        assert self.run(self.room.enter(*tickets)) == self.model.enter(tickets)

    @rule(picks=_picks)
    def people_leave(self, picks: list[int]) -> None:
        tickets = self.pick(picks)
        assert self.run(self.room.leave(*tickets)) == self.model.leave(tickets)

    @precondition(lambda self: self.model.passes)
    @rule(pick=st.integers(0, 1000), off=st.sampled_from([0, 0, 0, 1]))
    def a_backend_redeems(self, pick: int, off: int) -> None:
        ticket = sorted(self.model.passes)[pick % len(self.model.passes)]
        issued = self.model.passes[ticket].issued + off
        redeemed = self.run(self.room.line.redeem(self.room.event, ticket, issued))
        assert redeemed == self.model.redeem(ticket, issued)

    @rule(interrupted=st.sampled_from([None, None, 0, 100_000]))
    def a_sweep_comes_by(self, interrupted: int | None) -> None:
        when = 0 if interrupted is None else self.model.now - interrupted
        reaped = self.run(self.room.reap(when))
        assert (reaped.expired, reaped.unlinked) == self.model.reap(when)
        assert not reaped.more

    @rule(times=st.integers(1, 40), picks=_picks)
    def sweeps_go_on(self, times: int, picks: list[int]) -> None:
        for _ in range(times):
            self.time_passes(10_000)
            self.people_poll(picks, False)
            self.a_sweep_comes_by(None)

    @rule(changes=st.dictionaries(st.sampled_from(["rate", "burst", "pass_ttl"]), st.sampled_from(["0", "2", "9000"])))
    def an_operator_changes_settings(self, changes: dict[str, str]) -> None:
        changes = changes | {"declared": "1"}
        self.run(self.room.line.configure(self.room.event, changes))
        self.model.configure(changes)

    @rule(paused=st.sampled_from(["0", "1"]))
    def an_operator_pauses_or_resumes(self, paused: str) -> None:
        self.run(self.room.line.configure(self.room.event, {"paused": paused}))
        self.model.configure({"paused": paused})

    @rule()
    def the_state_is_lost(self) -> None:
        self.run(self.room.redis.delete(self.room.keys.state))
        self.model.state = type(self.model.state)()
        # Whoever comes next writes it anew.
        self.people_leave([])

    @rule(lost=st.sets(_members, min_size=1))
    def keys_are_lost_and_repaired(self, lost: set[str]) -> None:
        self.run(self.room.redis.delete(*(getattr(self.room.keys, name) for name in lost)))
        self.run(self.room.repair())
        self.model.tokens()
        for one in self.model.people.values():
            one.called = None if "called" in lost else one.called
            one.absent = one.absent and "absent" not in lost

    @invariant()
    def both_hold_the_same(self) -> None:
        if hasattr(self, "room"):
            self.run(self._compare())

    async def _compare(self) -> None:
        keys, model = self.room.keys, self.model
        people, scores = model.people, {}
        for name in ("queue", "called", "absent", "heartbeat", "admitted"):
            found = await self._looking.zrange(getattr(keys, name), 0, -1, withscores=True)
            scores[name] = {int(ticket): int(score) for ticket, score in found}
        assert list(scores["queue"]) == model.line
        assert scores["called"] == {t: one.called for t, one in people.items() if one.called is not None}
        assert list(scores["absent"]) == sorted(t for t, one in people.items() if one.absent)
        assert scores["heartbeat"] == {t: one.heard for t, one in people.items()}
        assert scores["admitted"] == {t: held.first for t, held in model.passes.items()}
        assert await self.room.logged() == {t: one.who for t, one in sorted(people.items())}
        places = {one.who[1:]: str(t) for t, one in people.items() if one.who[:1] == "v"}
        assert await self.room.fields(keys.places) == places


def test_every_sequence_of_steps_does_what_the_model_does(redis_server: RedisServer) -> None:
    class OnThisServer(Machine):
        url = redis_server.url

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(max_examples=50, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]),
    )
