"""How it ends: whoever polls faithfully gets in, whoever else stands in front; and of the departed nothing remains."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from shared.line.replies import EnterCode
from tests.line.model.event import FRESH, LIFE, LINE_TTL
from tests.line.model.machine import EVENT
from tests.line.model.memory import Memory
from tests.line.model.people import MANY

POLL, SWEEP = 2000, 25_000
RATE, BURST, PASS = 2, 8, 30_000


class Whole(Memory):
    """All steps."""

    faithful_got_in = ended = False

    @rule()
    def the_faithful_get_in_past_hoarders(self) -> None:
        if len(self.model.log) > MANY or self.faithful_got_in:
            return
        self.faithful_got_in = True
        self._heal()
        self.configure({"rate": str(RATE), "burst": str(BURST), "paused": "0", "pass_ttl": str(PASS)})
        faithful = set(sorted(self.model.log)[1::2])
        # Everybody who never enters holds up to a burst of others for a call's freshness.
        calls = -(-len(self.model.log) // BURST) * (FRESH // POLL + 2) + len(faithful) // RATE + BURST + 1
        for _ in range(calls):
            if not faithful:
                return
            self.move(POLL)
            self.step("poll", list(self.model.log))
            self._mend()
            entered = self.step("enter", list(faithful))
            faithful -= {t for t, told in zip(faithful, entered, strict=True) if told[0] == EnterCode.GRANTED}
        assert not faithful, f"{len(faithful)} of the faithful still wait"

    @rule(declared=st.booleans())
    def all_fall_silent_and_nothing_remains(self, declared: bool) -> None:
        if self.model.state.last is None or self.ended:
            return
        self.ended = True
        self._heal()
        if declared:
            self.configure({"rate": str(RATE), "burst": str(BURST), "paused": "0", "pass_ttl": str(PASS)})
        self.step("enter", self.called())
        # Grace for a life, and a life of silence.
        for _ in range(2 * LIFE // SWEEP + 2):
            self.move(SWEEP)
            self.sweep()
            self._mend()
            if not (self.model.log or self.model.heard or self.model.admitted):
                break
        seen = self.witness.seen
        assert (seen.log, seen.members, seen.heard) == ({}, [], {})
        # The clock may have jumped back.
        issued = [held.issued for held in self.model.passes.values()]
        latest = max(self.model.now, (self.model.state.last or 0) // 1000, *self.model.admitted.values(), *issued)
        self.move(latest - self.model.now + LIFE + PASS)
        # The first of these finds a gap, and grace lasts a life.
        self.sweeps(LIFE // SWEEP + 2, SWEEP, [])
        assert not self.model.admitted or not declared
        self.move(LINE_TTL)
        if self.sweep() or declared:
            left = {key.decode() for key in self.run(self.redis.keys(f"{self.settings.key_prefix}*{{{EVENT}}}*"))}
            assert left <= {self.keys.config}

    def _heal(self) -> None:
        """What workers and operators do in the end."""
        while self.jobs:
            self.a_worker_dies()
        # A walk that mended nothing is repeated after a minute.
        self.move(61_000)
        self.repair()
        self._mend()
        assert not self.model.damaged
        self.witness.places_agree()

    def _mend(self) -> None:
        """Losses whose counts agree come to light only when somebody enters, so it may be needed at any time."""
        self.repair()
        self.an_operator_has_the_log_written_anew()
        self.repair()
