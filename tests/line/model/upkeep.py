"""What workers and operators do to the line, in the model."""

from collections.abc import Sequence

from tests.line.model.asked import Asked
from tests.line.model.event import CHUNK, LIFE, LINE_TTL, READY, Pass, State

INDEX_FRESH, WALKING, WALKED = 1_000, 10_000, 60_000

_HELD_IN = {
    "stream": "log",
    "queue": "line",
    "called": "called",
    "absent": "absent",
    "heartbeat": "heard",
    "places": "places",
    "admitted": "admitted",
    "passes": "passes",
    "dedupe_new": "keys_new",
    "dedupe_old": "keys_old",
    "sessions": "sessions",
    "ended": "ended",
    "insiders": "insiders",
    "state": "state",
}
"""What of the model a key holds."""


class Model(Asked):
    """An event in full."""

    def configure(self, changes: dict[str, str]) -> None:
        """What the bucket gathered until now, it gathered under the old settings."""
        self.begin()
        if self.state.last is not None:
            self.keep_tokens()
        self.config |= changes

    def request_log_rebuild(self) -> bool:
        """Whether the log will be written anew."""
        if self.damaged:
            self.begin()
            self.state.relog = True
        return self.damaged

    def forget(self, activity: int) -> bool:
        """Whether the event is listed no more."""
        known = self.active is not None and self.active == activity
        self.active = None if known else self.active
        return known

    def refresh(self, tickets: list[int]) -> int:
        """How many were heard later than before."""
        heard = {t for t in tickets if self.heard.get(t, self.now) < self.now}
        self.heard |= dict.fromkeys(heard, self.now)
        return len(heard)

    def publish_index(self) -> bool:
        """Whether it was."""
        if self.damaged or (self.state.last is None and self.newest is None):
            return False
        if 0 <= self.now - self.state.indexed < INDEX_FRESH:
            return False
        self.begin()
        self.state.indexed = self.now
        return True

    def lose(self, lost: set[str]) -> None:
        """Keys of these names are lost."""
        for name in lost:
            setattr(self, _HELD_IN[name], type(getattr(self, _HELD_IN[name]))())
        if "stream" in lost:
            self.newest = None

    # The sweep's visit

    def reap(self, *, interrupted: int, longest_gap: int, limit: int = 256) -> tuple[bool, int, bool]:
        """Whether there is more to do, how many were expired, and whether the event was unlinked."""
        self.begin()
        state, now = self.state, self.now
        if (
            self.paused
            or self.closed
            or self.rate_in_force == 0
            or state.shut > now
            or (self.cap is not None and self.free < 1)
        ):
            state.shut = now
        if not (self.log or self.members or self.admitted or self.sessions or (self.config and self.ended)):
            quiet = max((state.last or 0) // 1000, state.busy)
            if self.config and quiet == 0:
                state.busy = now
                return False, 0, False
            if self.tokens >= self.capacity and now - quiet >= (LINE_TTL if self.config else LIFE):
                self._unlink()
                return False, 0, True
        else:
            state.busy = now
        grace = min(state.grace, now + LIFE)
        if now - state.swept > longest_gap:
            grace = now + LIFE
        state.grace, state.swept = max(grace, min(interrupted, now) + LIFE), now
        for times in (self.heard, self.called):
            times.update(dict.fromkeys(_first(limit, times, at_least=now + 1001), now))
        self._prune()
        expired, more = self._expire(limit) if state.grace <= now else (0, False)
        done = self._forget_admitted(limit) if state.grace <= now else 0
        return more or done == limit, expired, False

    def _prune(self) -> None:
        self.count_sessions()
        self.prune_sessions(held=self.state.grace > self.now or self.are_held())
        now = self.session_now
        kept = {ticket: end for ticket, end in self.ended.items() if end > now or ticket in self.sessions}
        if kept != self.ended:
            self.ended, self.state.session_clock = kept, now

    def _forget_admitted(self, limit: int) -> int:
        old = _first(limit, self.admitted, at_most=self.now - LIFE - self.pass_ttl)
        done = [ticket for ticket in old if not self._is_alive(self.passes.get(ticket))]
        for ticket in done:
            del self.admitted[ticket]
            self.passes.pop(ticket, None)
        return len(done)

    def _is_alive(self, held: Pass | None) -> bool:
        return held is not None and not held.redeemed and self.now - held.issued < self.pass_ttl

    def _expire(self, limit: int) -> tuple[int, bool]:
        long_open = self.now - self.state.shut >= READY
        self.open_door()
        if self.closed:
            return 0, False
        expired, more = self._depart_since(self.heard, limit)
        if long_open and self.openings >= 1 and expired < limit:
            uncollected, more_calls = self._depart_since(self.called, limit - expired)
            expired, more = expired + uncollected, more or more_calls
        self.state.totals["expired"] += expired
        return expired, more

    def _depart_since(self, times: dict[int, int], limit: int) -> tuple[int, bool]:
        old = _first(limit, times, at_most=self.now - LIFE)
        in_line = self.line & set(old)
        self.count_head_departures(len(in_line))
        departed = sum(self.depart(ticket, log_lost=False) for ticket in old)
        self.count_abandoned(in_line)
        return departed, len(old) == limit

    def _unlink(self) -> None:
        self.state, self.newest, self.keys_new, self.keys_old = State(), None, {}, {}
        self.heard, self.places, self.passes, self.rebuild = {}, {}, {}, {}

    # Repair

    def inspect(self) -> tuple[bool, bool, int, int, bool]:
        """Whether places differ, heartbeats are missing; entries, members; whether a walk of the log is of no use."""
        self.begin()
        state = self.state
        thin = len(self.heard) < self.members
        twice = thin and state.thin
        if state.last is not None:
            state.thin = thin
        differ = bool(self.log) and (state.recount or len(self.places) != state.verified)
        off = len(self.log) - self.members
        walked = self._within(WALKING, state.walking) or (
            off != 0 and off == state.walked_off and self._within(WALKED, state.walked)
        )
        return differ, twice, len(self.log), self.members, walked

    def _within(self, span: int, when: int) -> bool:
        return 0 <= self.now - when < span

    def repair(self, *, after: bytes = b"-", heartbeats: bool = True, tickets: Sequence[int] = ()) -> tuple[bytes, int]:
        """The entry to go on after, and how much was written back."""
        self.begin()
        if tickets:
            return b"", self._write_back([t for t in tickets if t in self.log], heartbeats=heartbeats)
        start = 0 if after == b"-" else _ticket(after)
        piece = sorted(ticket for ticket in self.log if ticket > start)[:CHUNK]
        written = self._write_back(piece, heartbeats=heartbeats)
        over = len(piece) < CHUNK
        state = self.state
        state.walking = 0 if over else self.now
        if over:
            state.walked, state.walked_off = self.now, len(self.log) - self.members
            if self.log:
                state.verified, state.recount = len(self.places), False
        return b"" if over else _entry(piece[-1]), written

    def _write_back(self, tickets: list[int], *, heartbeats: bool) -> int:
        written = 0
        for ticket in dict.fromkeys(tickets):
            if ticket not in self.line and ticket not in self.called and ticket not in self.absent:
                self.line.add(ticket)
                written += 1
            if heartbeats and ticket not in self.heard:
                self.heard[ticket] = self.now
                written += 1
        for ticket in tickets:
            user = self.log[ticket][1:] if self.log[ticket][:1] == "v" else None
            if user is not None and self.places.get(user) not in self.log:
                self.state.verified += user not in self.places
                self.places[user] = ticket
                written += 1
        return written

    def relog(self, entries: Sequence[tuple[int, bytes]], *, begin: bool = False, finish: bool = False) -> int:
        """0 if the log is not lost, 1 if written, 2 if it is whole again, -1 if somebody is missing."""
        if not self.log_lost:
            return 0
        if begin:
            self.rebuild = {}
        for ticket, who in entries:
            present = ticket in self.line or ticket in self.called or ticket in self.absent
            if present and ticket > max(self.rebuild, default=0):
                self.rebuild[ticket] = who.decode()
        if not finish:
            return 1
        if len(self.rebuild) != self.members:
            return -1
        self.begin()
        newest = max(self.newest or 0, self.state.last or 0)
        self.log, self.rebuild = self.rebuild, {}
        self.newest = max(newest, *self.log) if self.log else None
        self.state.last = max(newest, *self.log) if self.log else newest
        self.state.relog = False
        return 2


def _ticket(entry: bytes) -> int:
    ms, seq = entry.split(b"-")
    return int(ms) * 1000 + int(seq)


def _entry(ticket: int) -> bytes:
    return b"%d-%d" % divmod(ticket, 1000)


def _first(limit: int, times: dict[int, int], *, at_least: int = 0, at_most: int | None = None) -> list[int]:
    """Whose time is between these, the earliest first."""
    found = [t for t, when in times.items() if at_least <= when and (at_most is None or when <= at_most)]
    return sorted(found, key=lambda ticket: (times[ticket], str(ticket)))[:limit]
