"""How many may listen to a process, for how long, and when they come back: Live without a server or a Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import msgspec
import pytest

from api.contract.schemas import StatusResponse
from api.http.response import Response
from api.queue.answers import Answers
from api.queue.batched_line import BatchedLine
from api.queue.listener import Listener
from api.queue.live import Live
from api.serving.clock import RedisClock
from api.serving.position_cache import PositionCache
from api.serving.worker_outbox import WorkerOutbox
from shared.errors import OverloadedError
from shared.jobs import Jobs
from shared.line.line import Line
from shared.settings import Settings
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import Signer
from tests.support.settings import SECRET

SIGNER = Signer([SECRET])
TICKET = 1_795_489_214_696_517
MOST = 2000


def make_live() -> Live:
    """Its line is asked nothing: nobody who listens here is due before the test ends."""
    settings, clock = Settings(listen_seconds=600, max_listeners=MOST), RedisClock()
    return Live(
        settings,
        cast("BatchedLine", None),
        answers=cast("Answers", None),
        signer=SIGNER,
        clock=clock,
        positions=PositionCache(cast("Line", None), clock, settings),
        outbox=WorkerOutbox(cast("Line", None), cast("Jobs", None), clock),
        metrics=Metrics(),
    )


@pytest.fixture
async def live(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """One with files enough."""
    monkeypatch.setattr("api.queue.live.most_files", lambda: 2 * MOST)
    live = make_live()
    yield live
    await live.close()


def add(live: Live, number: int) -> Listener:
    """Somebody with a place of their own."""
    token = SIGNER.waiting("concert", TICKET + number)
    status = StatusResponse("waiting", token, number + 1, None, None, 0, False, 60_000, False)
    return live.add(Response(200, msgspec.json.encode(status), ()), bytes, "a trace")


async def goodbye(listener: Listener) -> int:
    """Reads a stream to its end, as a server does; after how many ms its listener is to come back."""
    *_, last = [chunk async for chunk in listener]
    await listener.aclose()
    bye = msgspec.json.decode(last.partition(b"data: ")[2])
    assert bye["reason"] == "drain"
    after: int = bye["reconnect_ms"]
    return after


async def test_streams_that_begin_together_do_not_end_together(live: Live) -> None:
    began = asyncio.get_running_loop().time()
    listeners = [add(live, number) for number in range(200)]
    lasts = [listener.ends_at - began for listener in listeners]
    assert min(lasts) >= 480
    assert max(lasts) - min(lasts) > 60
    for listener in listeners:
        await listener.aclose()


async def test_the_more_are_sent_away_the_longer_they_take_to_come_back(live: Live) -> None:
    reading = [asyncio.create_task(goodbye(add(live, number))) for number in range(MOST)]
    await live.dismiss()
    after = [await one for one in reading]
    # 500 a second: they come to what is left of a fleet.
    assert 1000 <= min(after) < 2000
    assert 4000 < max(after) <= 5000


async def test_whoever_was_let_through_too_early_is_refused_all_the_same(live: Live) -> None:
    # Many come at once: all of them ask whether there is room before the first of them takes it.
    live.check_room()
    listeners = [add(live, number) for number in range(MOST)]
    with pytest.raises(OverloadedError):
        add(live, MOST)
    await listeners.pop().aclose()
    listeners.append(add(live, MOST))
    for listener in listeners:
        await listener.aclose()


async def test_files_are_left_for_those_who_do_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.queue.live.most_files", lambda: 40)
    live = make_live()
    listeners = [add(live, number) for number in range(30)]
    with pytest.raises(OverloadedError):
        add(live, 30)
    for listener in listeners:
        await listener.aclose()
    await live.close()
