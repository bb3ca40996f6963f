"""Puts people in line directly through shared/line, so that wrk finds a crowd there at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from api.gate.cookies import cookie_name
from shared.line.line import CHUNK, Line, Renewal
from shared.line.line import Join as LineJoin
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer

SECRET: Final = "the secret of the benchmark, which it signs tokens with itself"
BATCH: Final = 256
MOST_ENTERS: Final = 100
"""In one call."""


@contextlib.asynccontextmanager
async def open_line(redis_url: str) -> AsyncIterator[Line]:
    """A line on this Redis."""
    settings = Settings.model_validate({"redis_url": redis_url})
    redis = connect(settings, "daegi-bench")
    try:
        yield Line(redis, settings)
    finally:
        await redis.aclose()


def on_line(redis_url: str, work: Callable[[Line], Awaitable[Any]]) -> Any:
    """Runs something with a line from code that is not asynchronous."""

    async def run() -> Any:
        async with open_line(redis_url) as line:
            return await work(line)

    return asyncio.run(run())


async def fill(line: Line, event: str, people: int) -> list[int]:
    """Lets this many people join; returns their tickets in order."""
    tickets: list[int] = []
    while len(tickets) < people:
        size = min(BATCH, people - len(tickets))
        batch = await line.enqueue(event, [LineJoin(b"", b"")] * size, may_create=True)
        some = [joined.ticket for joined in batch.joined]
        await line.confirm(event, some, batch.standing.now, note_activity=not tickets)
        tickets += some
    return tickets


async def call_all(line: Line, event: str, tickets: list[int]) -> None:
    """Opens the door so wide and so often that everybody is called."""
    await line.configure(event, {"rate": "1000000", "burst": "10000000"})
    await asyncio.sleep(0.2)  # long enough for the tokens
    waiting = len(tickets)
    while waiting:
        standing, _ = await line.poll(event, tickets[-1:])
        waiting = standing.waiting


def sign(event: str, tickets: list[int]) -> list[str]:
    """The waiting tokens for these tickets, as from their joins."""
    signer = Signer([SECRET])
    return [signer.waiting(event, ticket) for ticket in tickets]


async def let_in(line: Line, event: str, people: int) -> list[str]:
    """Lets people in and renews their passes, which makes them due again in 37 s; returns their cookies."""
    await line.configure(event, {"declared": "1"})
    tickets = await fill(line, event, people)
    await call_all(line, event, tickets)
    signer, name, cookies = Signer([SECRET]), cookie_name("p", event), []
    for start in range(0, people, MOST_ENTERS):
        batch = tickets[start : start + MOST_ENTERS]
        _, entered = await line.enter(event, batch)
        passes = [Renewal(ticket, one.until, one.entered) for ticket, one in zip(batch, entered, strict=True)]
        renewed = await line.renew(event, passes)
        for one, until in zip(passes, renewed.ends, strict=True):
            cookies.append(f"{name}={signer.pass_token(event, one.ticket, one.entered, until)}")
    return cookies


async def crowd(line: Line, workload: str, event: str) -> list[str]:
    """The tokens, or cookies, of the people who send requests in a workload; they are put where it needs them."""
    if workload == "poll":
        # Within the first 1,000 places, where every poll is answered exactly.
        return sign(event, await fill(line, event, 2 * CHUNK))
    if workload == "lease":
        # Nobody is let in meanwhile, so that people far back stay there.
        await line.configure(event, {"rate": "0.1", "burst": "1"})
        tickets = await fill(line, event, 50_000)
        await line.publish_index(event)
        return sign(event, tickets[10_000:])
    if workload == "gate":
        return await let_in(line, event, 5_000)
    tickets = await fill(line, event, 60_000)
    await call_all(line, event, tickets)
    return sign(event, tickets)
