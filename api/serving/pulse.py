"""This process's pulse: once a second it tells Redis that it is alive, and learns whether Redis is."""

import asyncio
import math
import os
import random
import time

import structlog

from api.serving.clock import RedisClock
from shared.errors import DaegiError, explain
from shared.line.line import PULSE_FRESH_MS, Line
from shared.settings import Settings
from shared.telemetry import error_reports

_log = structlog.get_logger(__name__)


class Pulse:
    """Beats once a second, even when nobody polls; after a gap in its beats it starts door grace.

    `ready` is True once Redis has answered.
    """

    def __init__(self, line: Line, clock: RedisClock, settings: Settings) -> None:
        self.ready = False
        self._line = line
        self._clock = clock
        self._ready_ms = int(settings.ready_ttl * 1000)
        self._name = f"-{os.getpid()}-{os.urandom(6).hex()}"
        self._grace_until = 0
        self._heard = -math.inf
        self._hurry = asyncio.Event()

    @property
    def grace(self) -> bool:
        """Whether people may be silent because of us: then the door calls the silent, too.

        This process's own clock counts as well: after a gap its first polls may overtake its first pulse.
        """
        return self._is_late(time.monotonic()) or (self._clock.now() or 0) < self._grace_until

    def check_now(self) -> None:
        """Beats at once, after a failure, to find out whether Redis is available."""
        self._hurry.set()

    async def run(self) -> None:
        """Beats until cancelled."""
        failures = 0
        while True:
            self._hurry.clear()
            try:
                await self._beat()
                if failures:
                    _log.info("redis is back")
                failures = 0
            except DaegiError as error:
                if not failures:
                    _log.warning("redis is unavailable", error=explain(error))
                failures += 1
            except Exception as error:  # noqa: BLE001 - see below
                # Any error: a process that stopped pulsing would keep the whole fleet from expiring anybody.
                if not failures:
                    _log.exception("no pulse")
                    error_reports.capture(error)
                failures += 1
            if failures:
                await asyncio.sleep(_retry_delay(failures))
            else:
                await _wait(self._hurry, 1.0)

    async def deregister(self) -> None:
        """Removes this process's pulse."""
        if self.ready and not self._line.is_away():
            await self._line.deregister(self._name)

    async def _beat(self) -> None:
        sent = time.monotonic()
        pulse = await self._line.pulse(self._name)
        # A frozen Redis may accept a pulse long after we gave up on it, so the gap in Redis's time is not enough.
        gap = self._is_late(sent) or pulse.now - pulse.last > PULSE_FRESH_MS
        self._heard = sent
        self._clock.sync(pulse.now)
        if gap if self.ready else not pulse.accompanied:
            if pulse.now >= self._grace_until:
                _log.info("door grace has begun: the silent are called too", seconds=self._ready_ms / 1000)
            self._grace_until = pulse.now + self._ready_ms
        self._name = pulse.process
        if not self.ready:
            self.ready = True
            _log.info("the api is ready")
            for warning in await self._line.warnings():
                _log.warning(warning)

    def _is_late(self, now: float) -> bool:
        return now - self._heard > PULSE_FRESH_MS / 1000


def _retry_delay(failures: int) -> float:
    """Seconds before the next try, after this many failures in a row.

    A fleet loses Redis at the same moment. It comes back within two seconds, and at most a tenth of it in any tenth
    of a second.
    """
    earliest = 0.0 if failures == 1 else 1.0
    return random.uniform(earliest, earliest + 1.0)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
