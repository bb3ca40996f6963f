"""A fleet returns to a restarted Redis little by little, but all of it within two seconds."""

import asyncio
import selectors
import time
from bisect import bisect_left
from contextlib import AsyncExitStack
from typing import Any

from api.serving.clock import RedisClock
from api.serving.pulse import Pulse
from shared.dev.redis_server import RedisServer
from shared.line import replies
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from tests.support.calls import join, running, try_join
from tests.support.processes import Api
from tests.support.refusals import refused
from tests.support.relay import Relay
from tests.support.waiting import eventually

PROCESSES = 200
"""Each with a client of its own. What is asserted of shares of them leaves room for chance."""

SPREAD = 2.0


class Leap(selectors.DefaultSelector):
    """Where a loop waits for its sockets and timers: with nothing under way it leaps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.under_way = 0.0, 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ever, but for the time."""
        ready = super().select(1 if self.under_way and timeout != 0 else 0)
        if not ready and not self.under_way:
            self.now += timeout or 0
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop on whose clock real answers take no time, however busy the machine; notes when it was asked to connect."""

    def __init__(self) -> None:
        self.leap = Leap()
        self.attempts: list[float] = []
        super().__init__(self.leap)

    def time(self) -> float:
        """In seconds from 0."""
        return self.leap.now

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """One attempt."""
        self.attempts.append(self.time())
        return await super().create_connection(*args, **options)


class PulsedLine(Line):
    """Tells the loop that an answer is under way."""

    loop: LeapingLoop

    async def pulse(self, process: str) -> replies.Pulse:
        """Waits in real time."""
        self.loop.leap.under_way += 1
        try:
            return await super().pulse(process)
        finally:
            self.loop.leap.under_way -= 1


async def restart(server: RedisServer, loop: LeapingLoop, outages: list[float]) -> dict[float, list[float]]:
    """Outage -> when the processes of a fleet tried to connect after it, in seconds from its end."""
    settings = Settings.model_validate({"redis_url": server.url})
    attempts: dict[float, list[float]] = {}
    async with AsyncExitStack() as stack:
        lines = []
        for _ in range(PROCESSES):
            client = connect(settings, "daegi-tests")
            stack.push_async_callback(client.aclose)
            line = PulsedLine(client, settings)
            line.loop = loop
            lines.append(line)
        pulses = [Pulse(line, RedisClock(), settings) for line in lines]
        beating = [asyncio.create_task(pulse.run()) for pulse in pulses]
        await asyncio.sleep(0.5)
        for outage in outages:
            server.kill()
            # Every process has requests under way, which all fail at that moment.
            for pulse in pulses:
                pulse.check_now()
            await asyncio.sleep(outage)
            assert all(line.is_away() for line in lines)
            server.restart()
            since, end = len(loop.attempts), loop.time()
            await asyncio.sleep(SPREAD + 0.1)
            assert not any(line.is_away() for line in lines)
            attempts[outage] = [when - end for when in loop.attempts[since:]]
        for one in beating:
            one.cancel()
        await asyncio.gather(*beating, return_exceptions=True)
    return attempts


def most_within(seconds: float, attempts: list[float]) -> int:
    """The most in any stretch of this length."""
    return max(bisect_left(attempts, first + seconds) - i for i, first in enumerate(attempts))


def test_a_fleet_comes_back_to_a_restarted_redis_spread_over_two_seconds(own_server: RedisServer) -> None:
    loop = LeapingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        found = runner.run(restart(own_server, loop, [0.1, 0.7, 3]))
    for attempts in found.values():
        # Nobody has to try twice.
        assert len(attempts) == PROCESSES
        assert attempts[-1] <= SPREAD
        assert most_within(0.1, attempts) <= 0.2 * PROCESSES
        assert most_within(0.5, attempts) <= 0.7 * PROCESSES


async def test_only_the_pulse_finds_out_that_redis_is_back(own_server: RedisServer, event: str) -> None:
    async with Relay(own_server.port) as relay, running(Api(relay.url)) as http:
        await join(http, event)
        own_server.kill()
        relay.cut()

        async def is_away() -> bool:
            return bool((await http.get("/readyz")).json()["redis"] == "away")

        await eventually(is_away)
        before, began = relay.connections, time.monotonic()
        for _ in range(100):
            refused(await try_join(http, event), 503, "UNAVAILABLE")
        assert relay.connections - before <= 2 + 2 * (time.monotonic() - began)
