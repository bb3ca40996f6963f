"""Any sequence of what visitors, gates, operators and accidents do keeps what sessions promise."""

import asyncio
import math
import os
from collections.abc import Coroutine
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.line import Join, Line, Renewal
from shared.line.replies import EnterCode, RedeemCode
from shared.redis.connect import connect
from shared.redis.node import Node
from shared.settings import Settings
from tests.conftest import Clock
from tests.line.conftest import GAP_MS

EVENT, SLACK, RELEASED = "inside", 2000, 3000
EXAMPLES = int(os.environ.get("DAEGI_TEST_EXAMPLES", "60"))
OFF = 1900
"""How far a process's estimate of Redis's clock may be off, in ms."""

_numbers = count(1)
_picks = st.integers(0, 1000)
_processes = st.integers(0, 2)
_grace = st.sampled_from([False, False, False, True])


class Gate:
    """A process that honours passes by what it knows: its own clock, and which tickets were released."""

    def __init__(self, off: int) -> None:
        self.off = off
        self.highest = 0
        self.version = -1
        self.released: set[int] = set()

    def hear(self, session_time: int) -> None:
        """Of a session time; its own never goes back."""
        self.highest = max(self.highest, session_time)

    def honours(self, held: Renewal) -> bool:
        return held.until > self.highest and held.ticket not in self.released


class Sessions(RuleBasedStateMachine):
    """One event, three gates in front of it, and everybody who ever held a pass."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.held: dict[int, list[Renewal]] = {}
        """Every pass that was ever given, by ticket: any may be replayed."""
        self.issued: dict[int, int] = {}
        self.waiting: list[int] = []
        self.released: dict[int, int] = {}
        """When, in session time."""
        self.arrived: set[int] = set()
        self.cap: int | None = None
        self.limit: int | None = None
        self.slots = math.inf
        self.last_asked = 0
        self.lost_something = False

    @initialize(offs=st.lists(st.integers(-OFF, OFF), min_size=3, max_size=3))
    def begin(self, offs: list[int]) -> None:
        given = {"redis_url": self.url, "key_prefix": f"{next(_numbers)}:", "admit_rate": 20, "admit_burst": 40}
        self.settings = Settings.model_validate(given)
        client = connect(self.settings, "daegi-tests")
        assert isinstance(client, Node)
        self.client, self.redis = client, Redis.from_url(self.url)
        self.line = Line(client, self.settings, self.clock)
        self.keys = self.line.keys.event(EVENT)
        self.gates = [Gate(off) for off in offs]
        self.configure({"declared": "1", "max_active": "2"})

    def teardown(self) -> None:
        try:
            if hasattr(self, "client"):
                self.run(self.client.aclose())
                self.run(self.redis.aclose())
        finally:
            self.loop.close()

    def run(self, asked: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asked)

    @property
    def now(self) -> int:
        return self.clock.now // 1000

    # Visitors

    @rule(people=st.integers(1, 4), grace=_grace)
    def people_come(self, people: int, grace: bool) -> None:
        done = self.run(self.line.enqueue(EVENT, [Join(b"", b"")] * people, True))
        self.waiting += [one.ticket for one in done.joined]
        self.enter(self.waiting, grace)

    @rule(pick=_picks, grace=_grace)
    def somebody_enters_again(self, pick: int, grace: bool) -> None:
        if self.held:
            self.enter([self.somebody(pick)], grace)

    def enter(self, tickets: list[int], grace: bool) -> None:
        _, entered = self.run(self.line.enter(EVENT, tickets, grace=grace))
        for ticket, one in zip(list(tickets), entered, strict=True):
            if one.code != EnterCode.GRANTED:
                continue
            assert ticket not in self.released, "a released ticket was let in again"
            assert not (ticket in self.arrived and one.issued != self.issued[ticket]), "issued again after arrival"
            assert one.until > self.session_time
            known = self.held.setdefault(ticket, [])
            assert not known or one.entered == known[0].entered
            known.append(Renewal(ticket, one.until, one.entered))
            self.issued[ticket] = one.issued
        self.waiting = [ticket for ticket in self.waiting if ticket not in self.held]

    @rule(grace=_grace)
    def somebody_walks_in(self, grace: bool) -> None:
        in_line = self.run(self.redis.zcard(self.keys.queue))
        walked = self.run(self.line.walk_in(EVENT, b"", grace=grace))
        if walked:
            assert walked.ticket not in self.held
            assert not in_line
            self.held[walked.ticket] = [Renewal(walked.ticket, walked.until, walked.entered)]
            self.issued[walked.ticket] = walked.entered

    @rule(
        picks=st.lists(st.tuples(_picks, _picks, st.booleans()), min_size=1, max_size=6),
        process=_processes,
        grace=_grace,
    )
    def passes_are_renewed(self, picks: list[tuple[int, int, bool]], process: int, grace: bool) -> None:
        if self.held:
            asked = []
            for pick, which, fixed in picks:
                passes = self.held[self.somebody(pick)]
                asked.append(passes[which % len(passes)]._replace(fixed=fixed))
            self.renew(asked, process, grace)

    @rule(process=_processes)
    def the_active_renew(self, process: int) -> None:
        # The best pass of each; it must be good for whoever was not thrown out.
        if self.held:
            self.renew([max(passes, key=lambda one: one.until) for passes in self.held.values()], process, False)

    def renew(self, passes: list[Renewal], process: int, grace: bool) -> None:
        renewed = self.run(self.line.renew(EVENT, passes, grace=grace))
        self.gates[process].hear(renewed.now)
        for one, until in zip(passes, renewed.ends, strict=True):
            over = self.limit is not None and one.entered + self.limit <= renewed.now
            if until:
                assert one.ticket not in self.released, "a released pass was renewed"
                assert until > renewed.now
                known = max(held.until for held in self.held[one.ticket])
                lengthened = one.fixed and one.ticket in self.arrived and until > known
                # What was lost is put back for as long as anybody's pass may be good.
                assert not lengthened or self.lost_something, "a fixed session was lengthened"
                self.held[one.ticket].append(one._replace(until=until, fixed=False))
                self.arrived.add(one.ticket)
            elif one.ticket not in self.released and not over and not one.fixed:
                assert one.until + SLACK <= renewed.now, "somebody active was thrown out"

    @rule(pick=_picks)
    def somebody_is_redeemed(self, pick: int) -> None:
        if self.held:
            ticket = self.somebody(pick)
            redeemed = self.run(self.line.redeem(EVENT, ticket, self.issued[ticket]))
            if redeemed.code == RedeemCode.REDEEMED:
                assert ticket not in self.released
                self.arrived.add(ticket)
                # The backend's own pass of the session, which nobody renews.
                assert redeemed.since <= self.now < redeemed.until or self.limit is not None
                if redeemed.until:
                    first = self.held[ticket][0]
                    self.held[ticket].append(first._replace(until=redeemed.until))

    @rule(pick=_picks, by_leaving=st.booleans())
    def somebody_goes(self, pick: int, by_leaving: bool) -> None:
        if self.held:
            ticket = self.somebody(pick)
            # Leave is for those who are inside, or known to have been let in.
            known = self.run(self.redis.zscore(self.keys.sessions, ticket)) is not None
            if by_leaving and known:
                self.run(self.line.leave(EVENT, [ticket]))
            else:
                self.run(self.line.release(EVENT, [ticket]))
            self.released.setdefault(ticket, self.session_time)

    def somebody(self, pick: int) -> int:
        # Lately let in, mostly.
        tickets = sorted(self.held)[-8:]
        return tickets[pick % len(tickets)]

    # Time

    @rule(milliseconds=st.sampled_from([1, 500, 1000, 2000, 3000, 10_000, 29_000, 31_000, 58_000, 62_000, 299_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)
        self.last_asked += milliseconds
        if self.last_asked >= 1000:
            self.gates_ask()

    @rule(milliseconds=st.sampled_from([-100_000, -20_000, -3000, 5000, 40_000]))
    def the_clock_jumps(self, milliseconds: int) -> None:
        # What a state that was lost knew of the time is lost with it.
        if milliseconds > 0 or self.run(self.line.ended(EVENT, 0)).session_clock:
            self.clock.advance(milliseconds / 1000)
            self.gates_ask()

    @rule(process=_processes, off=st.integers(-OFF, OFF))
    def a_process_starts_anew(self, process: int, off: int) -> None:
        self.gates[process] = Gate(off)
        self.gates_ask()

    def gates_ask(self) -> None:
        """As they do once a second."""
        self.last_asked = 0
        for gate in self.gates:
            ended = self.run(self.line.ended(EVENT, gate.version))
            gate.hear(ended.session_clock)
            if ended.tickets is not None:
                gate.version, gate.released = ended.version, set(ended.tickets)

    # The workers, operators, accidents

    @rule(grace=_grace)
    def somebody_polls(self, grace: bool) -> None:
        self.run(self.line.poll(EVENT, self.waiting[:3], grace=grace))

    @rule(interrupted=st.booleans())
    def a_sweep_visits(self, interrupted: bool) -> None:
        self.run(self.line.reap(EVENT, interrupted=self.now if interrupted else 0, longest_gap=GAP_MS))

    @rule(
        changes=st.fixed_dictionaries(
            {},
            optional={
                "max_active": st.sampled_from(["", "0", "1", "2", "3", "5"]),
                "session_ttl": st.sampled_from(["5000", "60000", "300000"]),
                "pass_ttl": st.sampled_from(["3000", "30000", "300000"]),
                "session_limit": st.sampled_from(["", "", "20000", "400000"]),
            },
        )
    )
    def an_operator_changes_settings(self, changes: dict[str, str]) -> None:
        self.configure(changes | {"declared": "1"})

    def configure(self, changes: dict[str, str]) -> None:
        self.run(self.line.configure(EVENT, changes))
        if "max_active" in changes:
            self.cap = int(changes["max_active"]) if changes["max_active"] else None
        if "session_limit" in changes:
            self.limit = int(changes["session_limit"]) if changes["session_limit"] else None

    @rule()
    def the_sessions_are_lost(self) -> None:
        if self.pass_ttls_agree():
            self.lost_something = True
            self.run(self.redis.delete(self.keys.sessions))

    @rule()
    def the_sessions_are_lost_for_a_while(self) -> None:
        if self.run(self.redis.exists(self.keys.sessions)) and self.pass_ttls_agree():
            self.lost_something = True
            self.run(self.redis.rename(self.keys.sessions, self.keys.sessions + "-kept"))
            self.enter(self.waiting or [1], False)
            self.run(self.line.poll(EVENT, []))
            # What came in meanwhile is not written over.
            self.run(self.redis.renamenx(self.keys.sessions + "-kept", self.keys.sessions))

    @rule(sessions_too=st.booleans())
    def the_state_is_lost(self, sessions_too: bool) -> None:
        record = self.run(self.line.describe(EVENT))
        longest = self.now + max(record.session_ttl, record.pass_ttl) + SLACK
        # With it goes what is known of jumps of the clock, and of a time to live that was longer.
        held = all(one.until + SLACK <= longest for one in self.all_passes())
        if self.session_time == self.now and held and self.pass_ttls_agree():
            self.lost_something = True
            keys = [self.keys.state, self.keys.sessions] if sessions_too else [self.keys.state]
            self.run(self.redis.delete(*keys))
            # Versions are times, where there is none to go on from.
            self.clock.advance(0.001)

    def pass_ttls_agree(self) -> bool:
        """Whether nobody whose slot was given away seems to hold a reservation, since pass_ttl was raised meanwhile.

        With the sessions goes what tells them from those who are inside.
        """
        pass_ttl = self.run(self.line.describe(EVENT)).pass_ttl
        inside = {int(ticket) for ticket in self.run(self.redis.zrange(self.keys.sessions, 0, -1))}
        return all(
            self.issued[ticket] + pass_ttl <= self.session_time
            for ticket in self.held.keys() - inside - self.released.keys()
        )

    # What holds

    @property
    def session_time(self) -> int:
        return max(self.now, self.run(self.line.ended(EVENT, 0)).session_clock)

    def all_passes(self) -> list[Renewal]:
        return [one for passes in self.held.values() for one in passes]

    @invariant()
    def no_more_passes_are_good_than_the_cap_allows(self) -> None:
        good = {one.ticket for one in self.all_passes() if self.gates_that_honour(one)}
        # A cap that is lowered, or set, throws nobody out.
        if self.cap is None:
            self.slots = math.inf
        else:
            self.slots = max(self.cap, min(self.slots, self.counted()))
        assert len(good) <= self.slots, f"{len(good)} of {self.slots} are inside"

    def gates_that_honour(self, one: Renewal) -> list[Gate]:
        for gate in self.gates:
            gate.hear(self.now + gate.off)
        return [gate for gate in self.gates if gate.honours(one)]

    def counted(self) -> float:
        """How many slots are taken, if none was lost."""
        active, lost = self.run(self.redis.hmget(self.keys.state, "active", "sessions_lost"))
        inside = int(self.run(self.redis.zcard(self.keys.sessions)))
        return inside if float(active or -1) == inside and not float(lost or 0) else math.inf

    @invariant()
    def a_released_pass_is_good_nowhere_three_seconds_later(self) -> None:
        if not self.released:
            return
        late = {ticket for ticket, when in self.released.items() if self.session_time >= when + RELEASED}
        for one in self.all_passes():
            if one.ticket in late:
                assert not self.gates_that_honour(one), f"{one} was released at {self.released[one.ticket]}"


# Long, and what a cluster could change of it every other test here sees.
@pytest.mark.parametrize("redis_server", ["server"], indirect=True)
def test_sessions_keep_their_promises_whatever_happens(redis_server: RedisServer) -> None:
    Sessions.url = redis_server.url
    run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
