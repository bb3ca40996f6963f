"""The line: every change of state, one typed method per Lua step, on one Redis or a cluster."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from shared.errors import EventNotFoundError, LogLostError
from shared.line import replies
from shared.line.keys import Keys
from shared.line.replies import Standing
from shared.line.scripts import load_script
from shared.redis.connect import RedisClient
from shared.redis.node import Command, Value
from shared.redis.server_info import Server
from shared.settings import Settings

CHUNK = 500
"""Entries that one script call looks at, so that it blocks Redis for at most 5 ms."""

PULSE_FRESH_MS = 3000
"""A gap between a process's pulses above this starts its door grace (shared/line/DESIGN.md, "Grace")."""

RELEASED_CHUNK = 5000
"""Released tickets read at once, which is a tenth of the work of a script over as many."""

INDEX_FRESH_MS = 1000
MILESTONES = 512
"""In a line of a million twice as many kept Redis for 6 to 9 ms (measured, on a busy machine)."""


class Join(msgspec.Struct, frozen=True, gc=False):
    """One join: the digests of its Idempotency-Key and user (b'' without a key), and who joins."""

    key: bytes
    who: bytes


class Renewal(NamedTuple):
    """A pass to be renewed: until when it is good and when its holder was first let in, in ms.

    `fixed`: only the arrival lengthens its session; later on it is told what that has left.
    """

    ticket: int
    until: int
    entered: int
    fixed: bool = False


class Enqueued(NamedTuple):
    """A batch's answer."""

    created: bool
    standing: Standing
    joined: list[replies.Joined]


class Line:
    """Joins, polls, enters, leaves and the workers' upkeep of every event.

    Raises UnavailableError when Redis is away or refuses, UnknownVersionError for a state written by another version
    of Daegi. `clock` (us) is for tests that move time.
    """

    def __init__(self, redis: RedisClient, settings: Settings, clock: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._clock = clock
        self._acks = settings.min_replicas_ack
        self.keys = Keys(settings.key_prefix)
        self._event_keys = lru_cache(maxsize=4096)(self.keys.event)
        self._heartbeat_ttl = _ms(settings.heartbeat_ttl)
        self._settings = (
            str(settings.admit_rate),
            str(settings.admit_burst),
            *(
                str(_ms(seconds))
                for seconds in (
                    settings.pass_ttl,
                    settings.heartbeat_ttl,
                    settings.ready_ttl,
                    settings.call_fresh,
                    settings.dedupe_ttl,
                    settings.line_ttl,
                )
            ),
        )

    @property
    def notes_activity(self) -> bool:
        """Whether `confirm` can note activity in passing: in a cluster the list of events is on another node."""
        return not self._redis.clustered

    def is_away(self, event_id: str | None = None) -> bool:
        """Whether the Redis of this event, or without one the Redis of the pulse, did not answer the last call."""
        return self._redis.is_away(self.keys.pulse if event_id is None else self._event_keys(event_id).stream)

    # What people ask for

    async def enqueue(self, event_id: str, joins: Sequence[Join], may_create: bool) -> Enqueued:
        """Round trip 1 of joining: gives each a place, on the replicas too. Raises EventNotFoundError, LogLostError."""
        args = [value for join in joins for value in (join.key, join.who)]
        reply = await self._step("enqueue", event_id, int(may_create), *args, acknowledged=True)
        code, created, standing, flat = reply
        if code == replies.EnqueueCode.NO_EVENT:
            raise EventNotFoundError
        if code == replies.EnqueueCode.LOG_LOST:
            raise LogLostError
        joined = replies.tuples(replies.Joined, flat[::3], map(int, flat[1::3]), flat[2::3])
        return Enqueued(bool(created), Standing.parse(standing), joined)

    async def confirm(self, event_id: str, tickets: Sequence[int], now: int, *, note_activity: bool) -> int | None:
        """Round trip 2 of joining: heartbeats at `now` (ms) and the event's activity.

        Returns how many events there are, if activity was noted.
        """
        commands: list[Command] = []
        if tickets:
            heartbeats = [now] * (2 * len(tickets))
            heartbeats[1::2] = tickets
            commands.append(("ZADD", self._event_keys(event_id).heartbeat, "GT", *heartbeats))
        if note_activity:
            commands += [("ZADD", self.keys.events, "GT", now, event_id), ("ZCARD", self.keys.events)]
        if not commands:
            return None
        results = await self._redis.pipeline(commands)
        return int(results[-1]) if note_activity else None

    async def poll(
        self, event_id: str, tickets: Sequence[int], *, grace: bool = False
    ) -> tuple[Standing, list[replies.Polled]]:
        """Where these tickets stand, exactly; writes their heartbeats and opens the door."""
        standing, flat = await self._step("poll", event_id, int(grace), *tickets)
        return Standing.parse(standing), replies.tuples(replies.Polled, flat[::2], flat[1::2])

    async def enter(
        self, event_id: str, tickets: Sequence[int], *, grace: bool = False
    ) -> tuple[Standing, list[replies.Entered]]:
        """Lets in whoever is called while there are openings."""
        standing, flat = await self._step("enter", event_id, int(grace), *tickets, acknowledged=True)
        entered = []
        for code, value in zip(flat[::2], flat[1::2], strict=True):
            if code == replies.EnterCode.GRANTED:
                entered.append(replies.Entered(code, 0, *map(int, value.split())))
            else:
                entered.append(replies.Entered(code, int(value), 0, 0, 0, 0))
        return Standing.parse(standing), entered

    async def leave(self, event_id: str, tickets: Sequence[int]) -> int:
        """Takes tickets out of the line, or cancels their unredeemed reservations; returns how many left.

        Releases the sessions of those who were let in.
        """
        return int(await self._step("leave", event_id, *tickets))

    async def walk_in(self, event_id: str, who: bytes = b"", *, grace: bool = False) -> replies.WalkedIn | None:
        """Lets somebody in at once, or None if somebody waits or there is no opening. `who` as in a Join."""
        reply = await self._step("walk_in", event_id, int(grace), who, acknowledged=True)
        if reply is None:
            return None
        walked_in = replies.WalkedIn(*map(int, reply))
        await self.note_activity([event_id], walked_in.entered)
        return walked_in

    async def renew(self, event_id: str, passes: Sequence[Renewal], *, grace: bool = False) -> replies.Renewed:
        """Renews sessions, at most CHUNK; a first renewal is the arrival."""
        values = (int(value) for one in passes for value in one)
        now, ends = await self._step("renew", event_id, int(grace), *values, acknowledged=True)
        return replies.Renewed(int(now), list(map(int, ends)))

    async def release(self, event_id: str, tickets: Sequence[int]) -> int:
        """Ends sessions: 3 s later their passes are good nowhere. Returns how many were active."""
        return int(await self._step("release", event_id, *tickets, acknowledged=True))

    async def ended(self, event_id: str, known_version: int) -> replies.Ended:
        """The tickets that were released while their passes may look good; none of them if the version is known."""
        keys = self._event_keys(event_id)
        reply = await self._redis.command("HMGET", keys.state, "session_version", "session_clock")
        version, session_clock = (int(float(value or 0)) for value in reply)
        # A state that was lost has no version, and says nothing of what was released before.
        if version and version == known_version:
            return replies.Ended(version, None, session_clock)
        return replies.Ended(version, frozenset(await self._members(keys.ended, RELEASED_CHUNK)), session_clock)

    async def room(self, event_id: str) -> replies.RoomRecord | None:
        """What a room and a gate need to know of an event; None if it is not declared."""
        fields = ("declared", "session_ttl", "session_limit", "room", "max_active", "paused")
        found = await self._redis.command("HMGET", self._event_keys(event_id).config, *fields)
        declared, session_ttl, session_limit, room, max_active, paused = found
        if not declared:
            return None
        return replies.RoomRecord(
            int(session_ttl or replies.SESSION_TTL_MS),
            int(session_limit) if session_limit else None,
            room or b"{}",
            int(max_active) if max_active else None,
            paused == b"1",
        )

    async def redeem(self, event_id: str, ticket: int, issued: int, key: str = "") -> replies.Redeemed:
        """Redeems the reservation issued at a time in ms, once; again for the same key (hexadecimal)."""
        reply = await self._step("redeem", event_id, ticket, issued, key, acknowledged=True)
        code, who, granted, since, until = reply
        return replies.Redeemed(code, who, int(float(granted)), int(since), int(until))

    async def index(self, event_id: str) -> replies.Index | None:
        """The published position index, if there is one."""
        blob = await self._redis.command("GET", self._event_keys(event_id).position_index)
        return replies.Index.parse(blob) if blob else None

    # What operators ask for

    async def configure(self, event_id: str, changes: dict[str, str]) -> None:
        """Declares an event, or changes its settings; holds from the next call on.

        They are rate, burst, pass_ttl, session_ttl (ms), session_limit (ms or ''), max_active (or ''), paused and room.
        """
        args = (value for change in changes.items() for value in change)
        await self._step("configure", event_id, *args, acknowledged=True)

    async def describe(self, event_id: str) -> replies.Described:
        """All there is to say about an event."""
        reply = await self._step("describe", event_id)
        declared, state, logged, called, absent, admitted, burst, pass_ttl, totals, standing, *sessions = reply
        active, max_active, session_ttl, session_limit = sessions
        names = ("joined", "admitted", "redeemed", "left", "expired", "stepped_aside")
        return replies.Described(
            bool(declared),
            bool(state),
            logged,
            called,
            absent,
            admitted,
            float(burst),
            int(pass_ttl),
            dict(zip(names, totals, strict=True)),
            Standing.parse(standing),
            active,
            int(max_active) if max_active else None,
            int(session_ttl),
            int(session_limit) if session_limit else None,
        )

    async def warnings(self) -> list[str]:
        """What is wrong with how Redis is set up, a sentence each."""
        try:
            servers = await self.servers()
        except Exception as error:  # noqa: BLE001 - a user without INFO, say: nothing depends on it
            return [f"Redis did not say how it is set up: {type(error).__name__}"]
        # Nothing of ours has a time to live, so a volatile- policy finds nothing to evict.
        policies = {server.memory_policy for server in servers if server.memory_limit}
        return [
            f"Redis drops people from the line when its memory is full: maxmemory-policy is {policy}, not noeviction"
            for policy in sorted(policies)
            if policy.startswith("allkeys")
        ]

    async def servers(self) -> list[Server]:
        """The Redis servers (masters) and how busy and full they are. Its user may be denied this: then it raises."""
        return await self._redis.servers()

    async def request_log_rebuild(self, event_id: str) -> bool:
        """Has repair write the log anew from the members of a damaged line; False if it is not damaged."""
        return bool(await self._step("request_log_rebuild", event_id))

    # The events and the ingress

    async def note_activity(self, event_ids: Sequence[str], now: int) -> int:
        """Lists these events as active at `now` (ms); returns how many events there are."""
        commands: list[Command] = [("ZCARD", self.keys.events)]
        if event_ids:
            active = (value for event_id in event_ids for value in (now, event_id))
            commands.insert(0, ("ZADD", self.keys.events, "GT", *active))
        return int((await self._redis.pipeline(commands))[-1])

    async def events(self, start: int, count: int) -> list[tuple[str, int]]:
        """A piece of the list of events, the longest quiet first, with their last activity in ms."""
        if count < 1:
            return []
        found = await self._redis.command("ZRANGE", self.keys.events, start, start + count - 1, "WITHSCORES")
        return [(found[i].decode(), int(float(found[i + 1]))) for i in range(0, len(found), 2)]

    async def count_events(self) -> int:
        """How many events there are."""
        return int(await self._redis.command("ZCARD", self.keys.events))

    async def forget(self, event_id: str, activity: int) -> bool:
        """Takes an event off the list if its last activity (ms) is still the one given."""
        return bool(await self._run("forget", (self.keys.events,), event_id, activity))

    async def pulse(self, process: str) -> replies.Pulse:
        """Says that this ingress process is alive; its name is '-id' the first time, then as answered."""
        now, last, accompanied, name = await self._run(
            "pulse", (self.keys.pulse,), self._now(), process, PULSE_FRESH_MS
        )
        return replies.Pulse(int(now), int(last), bool(accompanied), name.decode())

    async def deregister(self, process: str) -> None:
        """Takes back this process's pulse: its end is no interruption."""
        await self._redis.command("ZREM", self.keys.pulse, process)

    async def fleet(self, stale_after: int) -> replies.Fleet:
        """Whether the ingress was interrupted: pulses older than `stale_after` (ms) are stale."""
        interrupted, alive = await self._run("fleet", (self.keys.pulse,), self._now(), stale_after, self._heartbeat_ttl)
        return replies.Fleet(int(interrupted), alive)

    async def begin_sweep(self, worker: str, lease: int) -> str | None:
        """The event after which to sweep ('' for the first), or None while another worker holds the lease (ms)."""
        after = await self._run("begin_sweep", (self.keys.sweep,), self._now(), worker, lease)
        return None if after is None else after.decode()

    async def end_sweep(self, worker: str, after: str) -> bool:
        """Gives the lease back; the next sweep begins after this event."""
        return bool(await self._run("end_sweep", (self.keys.sweep,), worker, after))

    # What the workers do

    async def refresh(self, event_id: str, tickets: Sequence[int]) -> int:
        """Refreshes heartbeats of those still there, at most CHUNK."""
        return int(await self._run("refresh", (self._event_keys(event_id).heartbeat,), self._now(), *tickets))

    async def publish_index(self, event_id: str) -> bool:
        """Publishes the position index unless it is younger than a second."""
        return bool(await self._step("index", event_id, INDEX_FRESH_MS, MILESTONES))

    async def reap(self, event_id: str, *, interrupted: int, longest_gap: int, limit: int = 256) -> replies.Reaped:
        """A sweep's visit: grace, the door, expiry, pruning. `interrupted` and `longest_gap` in ms."""
        more, expired, unlinked, grace, standing = await self._step("reap", event_id, interrupted, longest_gap, limit)
        return replies.Reaped(bool(more), expired, bool(unlinked), bool(grace), Standing.parse(standing))

    async def inspect(self, event_id: str) -> replies.Inspected:
        """Compares the counts of the log and of what is rebuilt from it."""
        places, heartbeats, logged, members, standing, walked = await self._step("inspect", event_id)
        now = Standing.parse(standing)
        return replies.Inspected(bool(places), bool(heartbeats), logged, members, now, bool(walked))

    async def repair(
        self, event_id: str, *, after: bytes = b"-", heartbeats: bool = True, tickets: Sequence[int] = ()
    ) -> replies.Repaired:
        """Writes back a piece of the line: up to CHUNK log entries after one, or these tickets alone."""
        next_entry, written, standing = await self._step("repair", event_id, int(heartbeats), after, CHUNK, *tickets)
        return replies.Repaired(next_entry, written, Standing.parse(standing))

    async def relog(
        self, event_id: str, entries: Sequence[tuple[int, bytes]], *, begin: bool = False, finish: bool = False
    ) -> replies.RelogCode:
        """Writes back a piece of a lost log: tickets and who, rising, at most CHUNK."""
        mode = 1 if begin else 2 if finish else 0
        code = await self._step("relog", event_id, mode, *(value for entry in entries for value in entry))
        return replies.RelogCode(code)

    async def members(self, event_id: str) -> list[int]:
        """Every member of a line whose log is lost, in ticket order. While it is, people only leave."""
        keys = self._event_keys(event_id)
        found: set[int] = set()
        # From absent to line, as people come back; from the end, so that a departure shifts nobody out of sight.
        for key in (keys.absent, keys.called, keys.queue):
            found |= await self._members(key, CHUNK)
        return sorted(found)

    async def _members(self, key: str, chunk: int) -> set[int]:
        found: set[int] = set()
        end = int(await self._redis.command("ZCARD", key))
        while end > 0:
            start = max(0, end - chunk)
            found.update(map(int, await self._redis.command("ZRANGE", key, start, end - 1)))
            end = start
        return found

    async def known_users(self, event_id: str) -> dict[int, bytes]:
        """Who holds which ticket, as far as places and what is left of the log tell."""
        keys = self._event_keys(event_id)
        known: dict[int, bytes] = {}
        cursor = 0
        while True:
            reply = await self._redis.command("HSCAN", keys.places, cursor, "COUNT", CHUNK)
            cursor = int(reply[0])
            known.update({int(ticket): b"v" + user for user, ticket in dict(reply[1]).items()})
            if cursor == 0:
                break
        after = "-"
        while entries := await self._redis.command("XRANGE", keys.stream, after, "+", "COUNT", CHUNK):
            for entry_id, fields in entries:
                ms, seq = entry_id.split(b"-")
                known[int(ms) * 1000 + int(seq)] = dict(fields)[b"u"]
            after = "(" + entries[-1][0].decode()
        return known

    # How it is sent

    def _now(self) -> str:
        return str(self._clock()) if self._clock else ""

    async def _step(self, name: str, event_id: str, *args: Value, acknowledged: bool = False) -> Any:
        keys = self._event_keys(event_id)
        acks = self._acks if acknowledged else 0
        return await self._run(name, keys, self._now(), *self._settings, *args, acks=acks)

    async def _run(self, name: str, keys: Sequence[str], *args: Value, acks: int = 0) -> Any:
        return await self._redis.script(load_script(name), keys, *args, acks=acks)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
