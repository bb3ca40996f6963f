"""What several api processes and a worker ask of Redis together, and whether they answer alike."""

import asyncio
import dataclasses
import json
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, Self

from redis import Redis

from shared.dev.redis_server import LOCALHOST
from shared.dev.watchdog import Watchdog
from shared.jobs import Jobs
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer
from tests.load.prefill import fill
from tests.load.rig import RigError, redis_on_load_core
from tests.load.wire import Relay
from tests.support.processes import Api, Process, Worker
from tests.support.settings import SECRET

CONNECTIONS: Final = 64
SETTLE_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 10.0
FAR_BACK: Final = 5_000
CROWD: Final = 20_000
PEOPLE: Final = 100  # in each of many events
LEAVING: Final = 50  # people a second
# So slow that nobody reaches the front meanwhile.
SLOW: Final[dict[str, Any]] = {"admit_rate": 0.1, "admit_burst": 1}

Say = Callable[[str], None]


class Client:
    """One connection to an api process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connects."""
        return cls(*await asyncio.open_connection(LOCALHOST, port))

    async def status(self, token: str) -> dict[str, Any]:
        """A poll's answer."""
        self._writer.write(f"GET /api/v1/queue/status?token={token} HTTP/1.1\r\nHost: {LOCALHOST}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await self._reader.readexactly(int(length.partition(b":")[2]))
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RigError(f"a poll was answered {head!r} {body!r}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def close(self) -> None:
        """Disconnects."""
        self._writer.close()


@asynccontextmanager
async def _clients(port: int, count: int) -> AsyncIterator[list[Client]]:
    clients: list[Client] = []
    try:
        while len(clients) < count:
            clients.append(await Client.open(port))
        yield clients
    finally:
        for client in clients:
            client.close()


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Line]:
    settings = Settings.model_validate({"redis_url": url, **SLOW})
    redis = connect(settings, "daegi-scale")
    try:
        yield Line(redis, settings)
    finally:
        await redis.aclose()


@contextmanager
def _watched(process: Process) -> Iterator[Process]:
    """Runs a process; it also ends if this benchmark dies."""
    with process:
        watchdog = Watchdog(process.process.pid, signal.SIGTERM)
        try:
            yield process
        finally:
            watchdog.dismiss()


# Many events


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What was sent to Redis, per second."""

    processes: int
    polls: float
    jobs: float
    api_commands: float
    worker_commands: float
    redis_cpu: float  # share of a core
    most_worker_commands: float = 0.0  # if every process asks for every event's index every second


def many_events(events: int, polls: int, seconds: int, processes: Sequence[int], say: Say) -> list[Traffic]:
    """People of many events poll at a fixed rate, served by more and more processes and one worker."""
    found = []
    with redis_on_load_core() as (url, redis):
        say(f"filling: {events:,} events of {PEOPLE}")
        tokens = asyncio.run(_tokens(url, events))
        for count in processes:
            say(f"{events:,} events, {count} api processes")
            with ExitStack() as stack:
                port = redis.connection_pool.connection_kwargs["port"]
                to_api, to_worker = (stack.enter_context(Relay(port).running()) for _ in range(2))
                stack.callback(time.sleep, 0.5)  # the relays notice the closed connections of killed processes
                urls = [url.replace(f":{port}/", f":{relay.port}/") for relay in (to_api, to_worker)]
                api = Api(urls[0], processes=count, **SLOW)
                stack.enter_context(_watched(api))
                stack.enter_context(_watched(Worker(urls[1], **SLOW)))
                found.append(
                    asyncio.run(_traffic(count, api, (to_api, to_worker), redis, _Polls(tokens, polls, seconds)))
                )
                say(f"{events:,} events, all of them changed in each of {count} processes")
                found[-1] = dataclasses.replace(
                    found[-1], most_worker_commands=asyncio.run(_most(url, to_worker, count, events, seconds))
                )
    return found


async def _tokens(url: str, events: int) -> list[str]:
    signer = Signer([SECRET])
    found: list[str] = []
    async with _opened(url) as line:
        for number in range(events):
            event = _event(number)
            found += [signer.waiting(event, ticket) for ticket in await fill(line, event, PEOPLE)]
    return found


def _event(number: int) -> str:
    return f"event-{number}"


@dataclasses.dataclass(frozen=True)
class _Polls:
    tokens: Sequence[str]
    per_second: int
    seconds: int


async def _traffic(processes: int, api: Api, relays: tuple[Relay, Relay], redis: Redis, polls: _Polls) -> Traffic:
    def read() -> tuple[float, ...]:
        info: Any = redis.info("everything")
        cpu = info["used_cpu_user"] + info["used_cpu_sys"]
        # arq uses PSETEX when it enqueues a job and again when it starts it; nobody else uses it.
        jobs = info.get("cmdstat_psetex", {"calls": 0})["calls"] / 2
        return time.monotonic(), answered, jobs, *(relay.count.commands for relay in relays), cpu

    answered = 0

    async def poll(client: Client, lag: float) -> None:
        nonlocal answered
        due = time.monotonic() + lag
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await client.status(random.choice(polls.tokens))
            answered += 1
            due += CONNECTIONS / polls.per_second

    async with _clients(api.port, CONNECTIONS) as clients:
        tasks = [asyncio.create_task(poll(client, i / polls.per_second)) for i, client in enumerate(clients)]
        try:
            await _unless_failed(tasks, SETTLE_SECONDS)
            before = read()
            await _unless_failed(tasks, polls.seconds)
            passed = [now - then for now, then in zip(read(), before, strict=True)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return Traffic(processes, *(amount / passed[0] for amount in passed[1:]))


async def _most(url: str, to_worker: Relay, processes: int, events: int, seconds: int) -> float:
    jobs = Jobs(Settings.model_validate({"redis_url": url}))

    async def ask(lag: float) -> None:
        await asyncio.sleep(lag)
        while True:
            await jobs.compute_positions([_event(number) for number in range(events)])
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(ask(number / processes)) for number in range(processes)]
    try:
        await _unless_failed(tasks, SETTLE_SECONDS)
        before, began = to_worker.count.commands, time.monotonic()
        await _unless_failed(tasks, seconds)
        return (to_worker.count.commands - before) / (time.monotonic() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await jobs.close()


async def _unless_failed(tasks: Sequence["asyncio.Task[None]"], seconds: float) -> None:
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


# The same answer from every process


@dataclasses.dataclass(frozen=True)
class Spread:
    """How far apart the places are that several processes give the same people at once."""

    processes: int
    asked: int  # people of whom every process said that their place is approximate
    median: float
    most: int


async def same_answers(processes: int, seconds: int, say: Say) -> tuple[Spread, Spread]:
    """The same people poll each process under a lease, in a line that stands still and in one with LEAVING."""
    say(f"the same people ask {processes} processes")
    with redis_on_load_core() as (url, _), ExitStack() as stack:
        api = Api(url, processes=processes, **SLOW)
        stack.enter_context(_watched(api))
        stack.enter_context(_watched(Worker(url, **SLOW)))
        async with _opened(url) as line, _clients(api.port, CONNECTIONS) as clients:
            tickets = await fill(line, "crowd", CROWD)
            each = _one_of_each(api, clients, processes)
            await _ready(each, line, tickets[-1])
            still = await _spread(each, line, tickets, seconds)
            leaving = asyncio.create_task(_leave(line, tickets[:FAR_BACK]))
            try:
                return still, await _spread(each, line, tickets, seconds)
            finally:
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)


def _one_of_each(api: Api, clients: Sequence[Client], processes: int) -> list[Client]:
    """A connection to each of the processes: the system distributes connections at random."""
    owner = {
        connection.raddr.port: process.pid
        for process in api.family()
        for connection in process.net_connections("tcp")
        if connection.raddr
    }
    found = {owner[client.port]: client for client in clients if client.port in owner}
    if len(found) < processes:
        raise RigError(f"{len(clients)} connections reached only {len(found)} of {processes} processes: try again")
    return list(found.values())


async def _ready(clients: Sequence[Client], line: Line, ticket: int) -> None:
    async with asyncio.timeout(30):
        for client in clients:
            while not (await client.status(await _leased(line, ticket)))["approximate"]:  # noqa: ASYNC110 - it polls
                await asyncio.sleep(0.1)


async def _leased(line: Line, ticket: int) -> str:
    standing, _ = await line.poll("crowd", [ticket])
    return Signer([SECRET]).waiting("crowd", ticket, standing.now)


async def _spread(clients: Sequence[Client], line: Line, tickets: Sequence[int], seconds: int) -> Spread:
    apart, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        token = await _leased(line, random.choice(tickets[FAR_BACK:]))
        answers = await asyncio.gather(*(client.status(token) for client in clients))
        if all(answer["approximate"] for answer in answers):
            places = [int(answer["position"]) for answer in answers]
            apart.append(max(places) - min(places))
        await asyncio.sleep(0.01)
    if not apart:
        raise RigError("no place was approximate: no index was published")
    return Spread(len(clients), len(apart), statistics.median(apart), max(apart))


async def _leave(line: Line, tickets: Sequence[int]) -> None:
    for start in range(0, len(tickets), 5):
        await line.leave("crowd", tickets[start : start + 5])
        await asyncio.sleep(5 / LEAVING)
