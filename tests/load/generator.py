"""The engine of openloop.py: one thread, plain non-blocking sockets and epoll.

It reaches 20,000 requests a second with less than half a core, so it can share one with Redis.
"""

import contextlib
import dataclasses
import gc
import math
import random
import resource
import select
import socket
import time
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from tests.load.outcome import Answered, Outcome, Plan, times
from tests.load.rig import RigError

Requests = Callable[[int], bytes]
"""Returns the request with this number."""

clock = time.monotonic  # one clock for all processes of a machine
PREBUILT: Final = 250_000  # about 100 MB; each further request costs 0.3 us when it is due
CONNECT_SECONDS: Final = 10.0
ROUNDS_SECONDS: Final = 0.1  # how often time-outs are checked and lost connections reopened
TURN: Final = 64  # requests written before answers are read again


@dataclasses.dataclass(slots=True, eq=False)
class _Connection:
    link: socket.socket
    free_since: float = 0.0
    due: float = 0.0
    written: float = 0.0  # 0: no answer is outstanding
    part: bytes = b""
    connecting: bool = True


class _Series:
    """The times of one kind of answer."""

    def __init__(self) -> None:
        self.since_due, self.since_written = array("d"), array("d")

    def answered(self) -> Answered:
        return Answered(len(self.since_due), times(self.since_due), times(self.since_written))


class Generator:
    """One run."""

    def __init__(self, plan: Plan, requests: Requests) -> None:
        self.stop = False  # set by a signal handler
        self._plan = plan
        self._make = requests
        self._schedule = arrivals(plan)
        self._ready = [requests(number) for number in range(min(len(self._schedule), PREBUILT))]
        self._next = self._written = self._given_up = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._missing = 0  # connections to reopen
        self._statuses: Counter[bytes] = Counter()
        self._accepted, self._refused, self._lag = _Series(), _Series(), array("d")
        self._bare = self._timed_out = self._broken = self._unopened = 0

    def run(self) -> Outcome:
        """Sends all requests; raises RigError if the server cannot be reached."""
        plan = self._plan
        allow_files(plan.connections + 64)
        gc.collect()
        gc.disable()  # nothing here makes reference cycles, and a pause would be charged to the server
        try:
            self._connect()
            cpu, start = time.process_time(), clock()
            self._schedule = array("d", [start + at for at in self._schedule])
            for connection in self._idle:
                connection.free_since = start
            self._work(start + plan.seconds, sending=True)
            cpu, end = time.process_time() - cpu, clock()
            due = self._written + self._given_up if self._is_closed else self._due_by(end)
            open_at_end = self._outstanding()
            self._work(end + min(plan.grace, plan.timeout), sending=False)
            unanswered = self._outstanding()
        finally:
            gc.enable()
            for connection in self._by_fd.values():
                connection.link.close()
            self._epoll.close()
        return Outcome(
            rate=plan.rate,
            seconds=end - start,
            connections=plan.connections,
            due=due,
            written=self._written,
            statuses={int(status): count for status, count in sorted(self._statuses.items())},
            accepted=self._accepted.answered(),
            refused=self._refused.answered(),
            bare_503=self._bare,
            given_up=self._given_up,
            unsent=due - self._written - self._given_up,
            timed_out=self._timed_out,
            broken=self._broken,
            open_at_end=open_at_end,
            unanswered=unanswered,
            unopened=self._unopened,
            lag=times(self._lag),
            busy=cpu / (end - start),
            started=start,
            ended=end,
            interrupted=self.stop,
        )

    @property
    def _is_closed(self) -> bool:
        return not self._plan.rate

    def _connect(self) -> None:
        deadline = clock() + CONNECT_SECONDS
        self._missing = self._plan.connections
        self._replace_missing()
        while len(self._idle) < self._plan.connections:
            self._listen(0.1)
            if self._missing or clock() > deadline:
                raise RigError(f"{len(self._idle)} of {self._plan.connections} connections could be opened")

    def _work(self, deadline: float, *, sending: bool) -> None:
        rounds = clock() + ROUNDS_SECONDS
        while (now := clock()) < deadline and not self.stop and (sending or self._outstanding_any()):
            if now >= rounds:
                rounds = now + ROUNDS_SECONDS
                self._give_up(now)
                self._replace_missing()
            wait = min(rounds, deadline) - now
            if sending:
                wait = min(wait, self._send(now) - now)
            self._listen(max(wait, 0.0))

    def _send(self, now: float) -> float:
        """Writes the requests that are due; returns when to call it again if no answer comes before."""
        schedule, idle, ready = self._schedule, self._idle, self._ready
        for _ in range(TURN):
            if not idle:
                return math.inf
            if self._is_closed:
                due = idle[0].free_since
            elif self._next < len(schedule):
                due = schedule[self._next]
            else:
                return math.inf
            if due > now:
                return due
            connection = idle.popleft()
            self._next += 1
            number = self._written
            request = ready[number] if number < len(ready) else self._make(number)
            connection.due, connection.written = due, clock()
            self._written += 1
            self._lag.append(connection.written - max(due, connection.free_since))
            try:
                whole = connection.link.send(request) == len(request)
            except OSError:
                whole = False
            if not whole:
                self._lose(connection)
        return now

    def _listen(self, wait: float) -> None:
        # epoll waits for whole milliseconds only, select for microseconds.
        if wait:
            select.select([self._epoll], [], [], wait)
        for fd, _ in self._epoll.poll(0):
            connection = self._by_fd[fd]
            if connection.connecting:
                self._be_connected(connection)
            else:
                self._hear(connection)

    def _hear(self, connection: _Connection) -> None:
        try:
            data = connection.part + connection.link.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) <= len(connection.part):
            self._lose(connection)
            return
        whole, head = measure(data)
        if whole is None or whole > len(data):
            connection.part = data
            return
        if whole < len(data) or not connection.written:
            self._lose(connection)
            return
        now = clock()
        self._statuses[data[9:12]] += 1
        series = self._accepted if data[9] == 50 else self._refused  # 50 is "2"
        series.since_due.append(now - connection.due)
        series.since_written.append(now - connection.written)
        if data[9:12] == b"503" and b"retry-after:" not in data[:head].lower():
            self._bare += 1
        connection.part, connection.written, connection.free_since = b"", 0.0, now
        if b"onnection: close" in data:
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _be_connected(self, connection: _Connection) -> None:
        if connection.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._unopened += 1
            self._drop(connection)
            return
        connection.connecting = False
        connection.free_since = clock()
        self._epoll.modify(connection.link, select.EPOLLIN)
        self._idle.append(connection)

    def _lose(self, connection: _Connection) -> None:
        self._broken += bool(connection.written)
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        del self._by_fd[connection.link.fileno()]
        connection.link.close()
        self._missing += 1

    def _replace_missing(self) -> None:
        missing, self._missing = self._missing, 0
        for _ in range(missing):
            link = socket.socket()
            link.setblocking(False)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.connect_ex((self._plan.host, self._plan.port))  # SO_ERROR will report the error later
            self._by_fd[link.fileno()] = _Connection(link)
            self._epoll.register(link, select.EPOLLOUT)

    def _give_up(self, now: float) -> None:
        oldest = now - self._plan.timeout
        for connection in [each for each in self._by_fd.values() if 0 < each.written < oldest]:
            self._timed_out += 1
            self._drop(connection)
        while not self._is_closed and self._next < len(self._schedule) and self._schedule[self._next] < oldest:
            self._next += 1
            self._given_up += 1

    def _due_by(self, end: float) -> int:
        return max(self._next, bisect_right(self._schedule, end))

    def _outstanding(self) -> int:
        return sum(each.written > 0 for each in self._by_fd.values())

    def _outstanding_any(self) -> bool:
        return any(each.written > 0 for each in self._by_fd.values())


def measure(data: bytes) -> tuple[int | None, int]:
    """The length of the answer that begins here, None while it is unknown, and the length of its head."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None, 0
    at = data.find(b"content-length: ", 0, head)
    if at < 0:
        at = data[:head].lower().find(b"content-length: ")
    # Without it the body is chunked, or ends with the connection: with 0, the answer counts as broken if it has a body.
    length = int(data[at + 16 : data.index(b"\r", at)]) if at >= 0 else 0
    return head + 4 + length, head


def arrivals(plan: Plan) -> "array[float]":
    """When requests are due, in seconds from the start."""
    chance, at, found = random.Random(plan.seed), 0.0, array("d")
    while plan.rate and (at := at + chance.expovariate(plan.rate)) < plan.seconds:
        found.append(at)
    return found


def allow_files(count: int) -> None:
    """Raises the limit of open files; raises RigError if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < count:
        raise RigError(f"{count} open files are needed, {hard} allowed (ulimit -n)")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
