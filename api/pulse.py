"""This process's pulse: once a second it tells Redis that it is alive, and learns whether Redis is."""

import asyncio
import math
import os
import random
import time

import structlog

from api.clock import RedisClock
from shared import telemetry
from shared.errors import DaegiError, explain
from shared.line import PULSE_FRESH_MS, Line
from shared.settings import Settings

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
        away = False
        while True:
            self._hurry.clear()
            try:
                await self._beat()
                if away:
                    _log.info("redis is back")
                away = False
            except DaegiError as error:
                if not away:
                    _log.warning("redis is away", error=explain(error))
                away = True
            except Exception as error:  # noqa: BLE001 - see below
                # Whatever it is: a process that stopped pulsing would keep the whole fleet from expiring anybody.
                if not away:
                    _log.exception("no pulse")
                    telemetry.capture(error)
                away = True
            # Jitter spreads the reconnects of a fleet.
            pause = random.uniform(0.5, 1.0) if away else 1.0
            if away:
                await asyncio.sleep(pause)
            else:
                await _wait(self._hurry, pause)

    async def goodbye(self) -> None:
        """Takes the pulse back."""
        if self.ready and not self._line.is_away():
            await self._line.goodbye(self._name)

    async def _beat(self) -> None:
        sent = time.monotonic()
        pulse = await self._line.pulse(self._name)
        # Redis, when it was stopped, may have taken a pulse long after we gave it up: it alone can't tell.
        gap = self._is_late(sent) or pulse.now - pulse.last > PULSE_FRESH_MS
        self._heard = sent
        self._clock.sync(pulse.now)
        if gap if self.ready else not pulse.accompanied:
            self._grace_until = pulse.now + self._ready_ms
        self._name = pulse.process
        if not self.ready:
            self.ready = True
            for warning in await self._line.warnings():
                _log.warning(warning)

    def _is_late(self, now: float) -> bool:
        return now - self._heard > PULSE_FRESH_MS / 1000


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
