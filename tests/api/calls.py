"""What people do over HTTP, and what the tests of the api look at."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
import msgspec
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST
from shared.line.keys import Keys
from shared.line.line import Join, Line
from shared.redis.node import MAX_CONNECTIONS
from tests.processes import ADMIN_KEY, Api, Relay, eventually

OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client with room for a crowd."""
    limits = httpx.Limits(max_connections=600, max_keepalive_connections=600)
    # Nothing here speaks TLS, and reading certificates takes longer than most tests.
    settings = {"limits": limits, "timeout": 30, "trust_env": False, "verify": False, **options}
    async with httpx.AsyncClient(base_url=url, **settings) as opened:
        yield opened


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Starts a process and gives a client of it. The loop goes on meanwhile: a relay may stand before its Redis."""
    try:
        await asyncio.to_thread(api.__enter__)
        async with client(api.url) as http:
            yield http
    finally:
        await asyncio.to_thread(api.__exit__)


async def join(
    http: httpx.AsyncClient, event: str, *, key: str | None = None, user: str | None = None, label: str | None = None
) -> Any:
    """A join that works out; `user` is the verified one, `label` the one in the body."""
    answer = await try_join(http, event, key=key, user=user, label=label)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def try_join(
    http: httpx.AsyncClient, event: str, *, key: str | None = None, user: str | None = None, label: str | None = None
) -> httpx.Response:
    """A join."""
    headers = {"Idempotency-Key": key, "X-User-Id": user}
    body = {"event_id": event} if label is None else {"event_id": event, "user_id": label}
    given = {name: value for name, value in headers.items() if value is not None}
    return await http.post("/api/v1/queue/join", json=body, headers=given)


async def status(http: httpx.AsyncClient, token: str) -> Any:
    """A poll that works out."""
    answer = await try_status(http, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_status(http: httpx.AsyncClient, token: str) -> httpx.Response:
    """A poll."""
    return await http.get("/api/v1/queue/status", params={"token": token})


async def enter(http: httpx.AsyncClient, token: str) -> Any:
    """An enter that works out."""
    answer = await try_enter(http, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_enter(http: httpx.AsyncClient, token: str) -> httpx.Response:
    """An enter."""
    return await http.post("/api/v1/queue/enter", json={"waiting_token": token})


async def redeem(http: httpx.AsyncClient, reservation: str) -> Any:
    """A redeem that works out."""
    answer = await try_redeem(http, reservation)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_redeem(http: httpx.AsyncClient, reservation: str) -> httpx.Response:
    """A redeem."""
    return await http.post("/api/v1/queue/redeem", json={"reservation_token": reservation})


async def leave(http: httpx.AsyncClient, token: str, method: str = "DELETE") -> httpx.Response:
    """A leave."""
    return await http.request(method, "/api/v1/queue/leave", params={"token": token})


async def configure(http: httpx.AsyncClient, event: str, **changes: Any) -> Any:
    """An operator's change that works out."""
    answer = await http.put(f"/api/v1/admin/events/{event}", json=changes, headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def crowd(api: Api, requests: Sequence[bytes]) -> list[httpx.Response]:
    """The answers to raw requests that are sent at once, each over a connection of its own.

    httpx would need seconds for what is a moment here: its pool looks through all connections for every request.
    """
    connections = await asyncio.gather(*(asyncio.open_connection(LOCALHOST, api.port) for _ in requests))
    for (_, writer), request in zip(connections, requests, strict=True):
        writer.write(request)
    return await asyncio.gather(*(read_answer(reader, writer) for reader, writer in connections))


async def read_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> httpx.Response:
    """One HTTP answer; then the connection is closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = httpx.Headers(
            [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:] if line)]
        )
        body = await reader.readexactly(int(headers["content-length"]))
        return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)
    finally:
        writer.close()


def post(path: str, body: Any, *headers: str) -> bytes:
    """A raw POST of a JSON body, or of bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1", "Host: daegi", f"Content-Length: {len(content)}", *headers, "", "")
    return "\r\n".join(head).encode("latin-1") + content


async def open_all_connections(relay: Relay, redis: Redis, http: httpx.AsyncClient, prefix: str = "") -> None:
    """Has a process open every connection to Redis that it may: what is held later is then an answer to a command."""
    events = [f"opens-a-connection-{i}" for i in range(MAX_CONNECTIONS)]
    relay.delay = 0.1
    await asyncio.gather(*(join(http, event) for event in events))
    relay.delay = 0

    async def all_through() -> bool:
        return [await redis.zcard(Keys(prefix).event(event).heartbeat) for event in events] == [1] * len(events)

    # Round trip 2 of each goes on after its answer, and its own answer may still be delayed.
    await eventually(all_through)
    await asyncio.sleep(0.2)


def refused(answer: httpx.Response, status_code: int, code: str) -> dict[str, Any]:
    """The error inside the envelope, after a look at the envelope itself."""
    assert answer.status_code == status_code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert len(error["message"]) > 5
    assert error["trace_id"]
    assert not any(word in answer.text for word in ("Traceback", 'File \\"', ".py"))
    return error


def retry_after(answer: httpx.Response) -> int:
    """The Retry-After header, which has to be there, in seconds."""
    seconds = int(answer.headers["retry-after"])
    assert seconds >= 1
    return seconds


async def fill(line: Line, event: str, people: int) -> list[int]:
    """Puts people without keys into a line, past the api; their tickets in order."""
    tickets: list[int] = []
    while len(tickets) < people:
        batch = await line.enqueue(event, [Join(b"", b"")] * min(256, people - len(tickets)), may_create=True)
        some = [joined.ticket for joined in batch.joined]
        await line.confirm(event, some, batch.standing.now, note_activity=False)
        await line.note_activity([event], batch.standing.now)
        tickets += some
    return tickets


async def age_index(redis: Redis, event: str, seconds: float, prefix: str = "") -> None:
    """Publishes an event's index as one that was computed some seconds ago."""
    key = Keys(prefix).event(event).position_index
    blob = await redis.execute_command("GET", key, NEVER_DECODE=True)
    standing, *rest = msgspec.msgpack.decode(blob)
    server_seconds, micros = await redis.time()
    # The index's time is a text: Lua's numbers would lose digits in msgpack.
    standing[0] = str(int(server_seconds * 1000 + micros / 1000 - seconds * 1000))
    await redis.set(key, msgspec.msgpack.encode([standing, *rest]))


class Monitor:
    """What clients send to a Redis while it watches: `async with Monitor(url) as monitor:`."""

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url, encoding="latin-1", decode_responses=True)
        self._seen: list[str] = []
        self._more = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._monitor = self._client.monitor()
        await self._monitor.__aenter__()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._monitor.__aexit__(None, None, None)
        await self._client.aclose()

    async def commands(self) -> list[str]:
        """All so far, without what scripts call."""
        mark = f"mark-{time.monotonic_ns()}"
        await self._client.echo(mark)
        while not any(mark in command for command in self._seen):
            self._more.clear()
            await self._more.wait()
        return [command for command in self._seen if "ECHO mark-" not in command]

    async def _watch(self) -> None:
        while True:
            found = await self._monitor.next_command()
            if found["client_type"] != "lua":
                self._seen.append(found["command"])
                self._more.set()
