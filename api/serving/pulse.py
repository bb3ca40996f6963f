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
    """Beats once a second, also when nobody polls; after a gap of its own it gives the door grace.

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
        """Whether the silent may be silent because of us: then the door calls them too.

        By this process's own time as well: after a gap its first polls may overtake its first pulse.
        """
        return self._is_late(time.monotonic()) or (self._clock.now() or 0) < self._grace_until

    def check_now(self) -> None:
        """Something failed: finds out at once, rather than within a second, whether Redis is there."""
        self._hurry.set()

    async def run(self) -> None:
        """Beats until cancelled."""
        in_vain = 0
        while True:
            self._hurry.clear()
            try:
                await self._beat()
                if in_vain:
                    _log.info("redis is back")
                in_vain = 0
            except DaegiError as error:
                if not in_vain:
                    _log.warning("redis is away", error=explain(error))
                in_vain += 1
            except Exception as error:  # noqa: BLE001 - see below
                # Whatever it is: a process that stopped pulsing would keep the whole fleet from expiring anybody.
                if not in_vain:
                    _log.exception("no pulse")
                    error_reports.capture(error)
                in_vain += 1
            if in_vain:
                await asyncio.sleep(_pause(in_vain))
            else:
                await _wait(self._hurry, 1.0)

    async def deregister(self) -> None:
        """Takes the pulse back."""
        if self.ready and not self._line.is_away():
            await self._line.deregister(self._name)

    async def _beat(self) -> None:
        sent = time.monotonic()
        pulse = await self._line.pulse(self._name)
        # Redis, when it was stopped, may have taken a pulse long after we gave it up: it alone can't tell.
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


def _pause(in_vain: int) -> float:
    """Seconds before the next try, after so many in vain.

    A fleet loses Redis in one moment; in no tenth of a second does more than a tenth of it come back, and all of it
    within two.
    """
    earliest = 0.0 if in_vain == 1 else 1.0
    return random.uniform(earliest, earliest + 1.0)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
