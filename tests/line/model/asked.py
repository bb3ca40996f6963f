"""What people ask of the line, in the model."""

from shared.errors import LogLostError
from shared.line.line import Join
from shared.line.replies import EnterCode, JoinCode, PollCode, RedeemCode
from tests.line.model.event import DEDUPE, LIFE, SLACK, Event, Pass


class Asked(Event):
    """An event that people join, poll, enter and leave. Every step answers as the line does."""

    def enqueue(self, joins: list[Join]) -> list[tuple[int, int, int]]:
        """Code, ticket and position."""
        if self.log_lost:
            raise LogLostError
        unborn, state = self.unborn, self.state
        self.begin()
        if unborn:
            self.keep_tokens()
            state.swept = self.now
        if not self.log:
            self.places, state.verified, state.recount = {}, 0, False
        self._turn_keys_over()
        places_lost = bool(self.log) and (state.recount or len(self.places) < state.verified)
        return [self._join(join.key[:16], join.key[16:], join.who.decode(), places_lost=places_lost) for join in joins]

    def _turn_keys_over(self) -> None:
        state = self.state
        if not state.rotated or self.now < state.rotated:
            state.rotated = self.now
        elif self.now - state.rotated >= 2 * DEDUPE:
            self.keys_old, self.keys_new, state.rotated = {}, {}, self.now
        elif self.now - state.rotated >= DEDUPE:
            self.keys_old, self.keys_new = self.keys_new, {}
            state.rotated += DEDUPE

    def _join(self, key: bytes, owner: bytes, who: str, *, places_lost: bool) -> tuple[int, int, int]:
        known = self.keys_new.get(key, self.keys_old.get(key)) if key else None
        if known and (self.has_place(known[0]) or known[0] in self.admitted):
            if known[1] != owner:
                return JoinCode.KEY_REUSED, 0, 0
            if not self.has_place(known[0]):
                return JoinCode.ADMITTED, known[0], 0
            return self._replay(known[0])
        place = self.places.get(who[1:]) if who[:1] == "v" else None
        if place is not None and self.has_place(place):
            answer = self._replay(place)
        elif who[:1] == "v" and places_lost:
            return JoinCode.PLACE_UNKNOWN, 0, 0
        else:
            answer = self._new(who)
        if key:
            self.keys_new[key] = answer[1], owner
        return answer

    def _replay(self, ticket: int) -> tuple[int, int, int]:
        self.restore_absent([ticket])
        return JoinCode.IN_LINE, ticket, self.position(ticket)

    def _new(self, who: str) -> tuple[int, int, int]:
        ticket = max(self.us, (self.state.last or 0) + 1)
        self.state.last = self.newest = ticket
        self.log[ticket] = who
        self.line.add(ticket)
        if who[:1] == "v":
            self.state.verified += who[1:] not in self.places
            self.places[who[1:]] = ticket
        self.state.totals["joined"] += 1
        return JoinCode.NEW, ticket, self.position(ticket)

    def confirm(self, tickets: list[int], now: int, *, note_activity: bool) -> int | None:
        """How many events there are, if activity was noted."""
        for ticket in tickets:
            self.heard[ticket] = max(self.heard.get(ticket, now), now)
        return self.note_activity(now) if note_activity else None

    def note_activity(self, now: int) -> int:
        """How many events there are."""
        self.active = now if self.active is None else max(self.active, now)
        return 1

    def poll(self, tickets: list[int], *, grace: bool = False) -> list[tuple[int, int]]:
        """Code and position."""
        self.begin()
        hesitant = [t for t in tickets if t in self.called and self.heard.get(t, 0) > self.called[t]]
        self.touch_and_locate(tickets)
        self.release_calls(hesitant)
        self.open_door(grace=grace)
        ready = self.openings >= 1 and not self.closed and not self.paused
        answers: list[tuple[int, int]] = []
        for ticket in tickets:
            if ticket in self.line or ticket in self.called:
                code = PollCode.READY if ready and ticket in self.called else PollCode.WAITING
                answers.append((code, self.position(ticket)))
            else:
                answers.append((PollCode.ADMITTED if ticket in self.admitted else PollCode.GONE, 0))
        return answers

    def enter(self, tickets: list[int], *, grace: bool = False) -> list[tuple[int, int, int, int, int, int]]:
        """Code, position, time of issue and the rest of its life, when first let in and until when the pass is good."""
        self.begin()
        self.touch_and_locate(tickets)
        self.open_door(grace=grace)
        known = set(self.admitted)
        answers = [self._enter(ticket, grace=grace) for ticket in tickets]
        for ticket in tickets:
            if ticket in self.admitted and ticket not in known:
                known.add(ticket)
                self._end_earlier(ticket)
        return answers

    def _end_earlier(self, ticket: int) -> None:
        """A verified user who comes in anew."""
        who = self.passes[ticket].who
        if not who.startswith("v"):
            return
        earlier = self.insiders.get(who)
        self.insiders[who] = ticket
        if earlier is not None:
            self.release(earlier)
            self._cancel(earlier)

    def _cancel(self, ticket: int) -> bool:
        """Whether there was a reservation that nobody had redeemed."""
        held = self.passes.get(ticket)
        if held is None or held.redeemed:
            return False
        del self.passes[ticket]
        self.admitted.pop(ticket, None)
        return True

    def _enter(self, ticket: int, *, grace: bool) -> tuple[int, int, int, int, int, int]:
        if ticket in self.admitted:
            return self._enter_again(ticket, grace=grace or self._interrupted)
        if ticket not in self.line and ticket not in self.called:
            return _refused(EnterCode.GONE)
        if self.paused:
            return _refused(EnterCode.PAUSED, self.position(ticket))
        if self.closed or self.openings < 1 or ticket not in self.called:
            return _refused(EnterCode.NOT_READY, self.position(ticket))
        who = self.log.get(ticket)
        if who is None:
            # Two losses whose counts agree: from here on they don't count as agreeing.
            self.closed = self.state.recount = True
            return _refused(EnterCode.NOT_READY)
        self.depart(ticket, log_lost=self.log_lost)
        self.tokens -= 1
        self.keep_tokens()
        self.count_sessions()
        now, until = self.session_now, self.session_now + self.pass_ttl
        self.admitted[ticket] = now
        self.passes[ticket] = Pass(now, who)
        self.lengthen(ticket, until, known=False)
        self.state.totals["admitted"] += 1
        return EnterCode.GRANTED, 0, now, self.pass_ttl, now, until

    @property
    def _interrupted(self) -> bool:
        """As a sweep has found, or is going to."""
        return self.state.grace > self.now or self.now - self.state.swept > LIFE / 3

    def _enter_again(self, ticket: int, *, grace: bool) -> tuple[int, int, int, int, int, int]:
        held, now, first = self.passes.get(ticket), self.session_now, self.admitted[ticket]
        if held is None:
            return _refused(EnterCode.GONE)
        lapsed = now - held.issued >= self.pass_ttl
        if held.redeemed or (held.arrived and lapsed):
            return _refused(EnterCode.ALREADY_REDEEMED)
        if lapsed and self.now - first > LIFE and not grace:
            return _refused(EnterCode.GONE)
        issued = now if lapsed else held.issued
        until = min(issued, now) + self.pass_ttl
        if not self.keep(ticket, until, runs=not lapsed):
            return _refused(EnterCode.NOT_READY, 1)
        held.issued = issued
        return EnterCode.GRANTED, 0, issued, until - now, first, until

    def leave(self, tickets: list[int]) -> int:
        """How many left."""
        self.begin()
        log_lost, left, in_line = self.log_lost, 0, self.line & set(tickets)
        for ticket in tickets:
            has_left = self.depart(ticket, log_lost=log_lost)
            if ticket in self.passes or ticket in self.sessions:
                self.release(ticket)
                has_left = self._cancel(ticket) or has_left
            left += has_left
        self.count_abandoned(in_line)
        self.state.totals["left"] += left
        return left

    def redeem(self, ticket: int, issued: int, key: str = "") -> tuple[int, bytes, int, int, int]:
        """Code, who, when they were first let in, from when and until when they may stay."""
        held = self.passes.get(ticket)
        if held and held.redeemed and (not key or key != held.key):
            return RedeemCode.ALREADY_REDEEMED, b"", 0, 0, 0
        if not held or not (held.redeemed or (held.issued == issued and self.session_now - issued < self.pass_ttl)):
            return RedeemCode.EXPIRED, b"", 0, 0, 0
        if not held.redeemed:
            if not self._arrives(ticket):
                return RedeemCode.EXPIRED, b"", 0, 0, 0
            held.redeemed, held.key = True, key
            self.state.totals["redeemed"] += 1
        granted = self.admitted.get(ticket, held.issued)
        until = self.sessions.get(ticket, 0) - SLACK
        is_over = ticket in self.ended or until <= self.session_now
        stay = (0, 0) if is_over else (min(self.now, until - self.session_ttl), until)
        return RedeemCode.REDEEMED, held.who.encode(), granted, *stay

    def _arrives(self, ticket: int) -> bool:
        self.begin()
        return self.keep(ticket, self.session_now + self.session_ttl, runs=True)


def _refused(code: EnterCode, position: int = 0) -> tuple[int, int, int, int, int, int]:
    return code, position, 0, 0, 0, 0
