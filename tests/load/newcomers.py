"""A newcomer every 50 ms, who shows what people see while others overload the server."""

import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psutil

from shared.dev.redis_server import LOCALHOST
from tests.load.rig import JOIN, Play

PROBE_SECONDS: Final = 0.05
TIMEOUT: Final = 4.0
AT_ONCE: Final = 100  # more than come within a time-out
IN_A_ROW: Final = 10


@dataclasses.dataclass(frozen=True)
class Probe:
    """One newcomer."""

    at: float
    ms: float
    status: int  # 0: no answer


class Newcomers:
    """A side thread that joins every 50 ms and looks at the memory of the api."""

    def __init__(self, play: Play, event: str) -> None:
        self._probes: list[Probe] = []
        self.memory: list[int] = []
        self._play, self._event = play, event
        self._over = threading.Event()
        # At this point our only child processes are the server, Redis, and the shells that watch over both.
        self._server = [
            each for each in psutil.Process().children(recursive=True) if each.name().startswith(("python", "granian"))
        ]

    @contextlib.contextmanager
    def coming(self) -> Iterator["Newcomers"]:
        """Newcomers arrive while the block runs."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def between(self, start: float, end: float) -> list[Probe]:
        """The newcomers between two times."""
        return sorted((each for each in list(self._probes) if start <= each.at < end), key=lambda each: each.at)

    def _run(self) -> None:
        due, number = time.monotonic(), 0
        # A newcomer who is held must not delay the next one.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due += PROBE_SECONDS
                if number % 10 == 0:
                    self.memory.append(sum(each.memory_info().rss for each in self._server))
                pool.submit(self._probe, number, time.monotonic())
                number += 1

    def _probe(self, number: int, at: float) -> None:
        status = self._join(number)
        self._probes.append(Probe(at, (time.monotonic() - at) * 1e3, status))

    def _join(self, number: int) -> int:
        connection = http.client.HTTPConnection(LOCALHOST, self._play.port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            try:
                body = json.dumps({"event_id": self._event, "user_id": f"newcomer-{number}"})
                connection.request("POST", JOIN, body, {"Content-Type": "application/json"})
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                return 0
            return reply.status


def back(after: Sequence[Probe], quiet: Sequence[Probe], end: float) -> float | None:
    """Seconds from the end of the load until the first of ten newcomers in a row was served as quickly as before it."""
    slowest = sorted(each.ms for each in quiet)[int(len(quiet) * 0.9)]
    limit = max(2 * slowest, 25.0)
    good = 0
    for number, probe in enumerate(after):
        good = good + 1 if probe.status == 202 and probe.ms <= limit else 0
        if good == IN_A_ROW:
            return after[number - IN_A_ROW + 1].at - end
    return None


def median(probes: Sequence[Probe]) -> float:
    return sorted(each.ms for each in probes)[len(probes) // 2] if probes else 0.0
