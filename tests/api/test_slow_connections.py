"""Connections that send nothing, or a byte now and then: others are still served, and they end some day."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import chain
from typing import Self

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.api.bad_requests import JOIN
from tests.support.calls import client, join, running
from tests.support.processes import Api
from tests.support.raw_http import crowd, post

IDLE, HEADS, BODIES = 3000, 1000, 1000
HEAD = f"POST {JOIN} HTTP/1.1\r\nHost: daegi\r\n".encode()
BODY = HEAD + b"Content-Length: 16000\r\n\r\n{"


@contextmanager
def files(count: int) -> Iterator[None]:
    """Room for so many open files in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"{count} open files are needed, {hard} allowed (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Slow:
    """Connections that have sent something and go on a byte a second, or not at all."""

    def __init__(self, api: Api, count: int, start: bytes, drip: bytes = b"") -> None:
        self.drips = 0
        self._api, self._count, self._start, self._drip = api, count, start, drip

    async def __aenter__(self) -> Self:
        self.links = [socket.create_connection((LOCALHOST, self._api.port)) for _ in range(self._count)]
        for link in self.links:
            link.sendall(self._start)
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for link in self.links:
            link.close()

    async def _go_on(self) -> None:
        while self._drip:
            await asyncio.sleep(1)
            for link in self.links:
                link.send(self._drip)
            self.drips += 1


def receive(link: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    link.settimeout(40)
    parts = []
    while part := link.recv(4096):
        parts.append(part)
    return b"".join(parts)


async def test_5000_idle_and_slow_connections_keep_nobody_from_being_served(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    # Each of the crowds is more than may wait: a request counts as one when it is there as a whole.
    api = Api(redis_server.url, max_pending=100)
    async with AsyncExitStack() as stack:
        stack.enter_context(files(IDLE + HEADS + BODIES + 500))
        http = await stack.enter_async_context(running(api))
        await stack.enter_async_context(Slow(api, IDLE, b""))
        heads = await stack.enter_async_context(Slow(api, HEADS, HEAD + b"X-Slow: ", b"x"))
        bodies = await stack.enter_async_context(Slow(api, BODIES, BODY, b" "))
        late = await stack.enter_async_context(Slow(api, 1, HEAD + b'Content-Length: 40\r\n\r\n{"event_id":'))
        served = 0
        while min(heads.drips, bodies.drips) < 3:
            answers = await crowd(api, [post(JOIN, {"event_id": event})] * 50)
            assert [answer.status_code for answer in answers] == [202] * 50
            assert (await join(http, event))["position_hint"] == served + 51
            served += 51
            async with client(api.url) as newcomer:
                assert (await newcomer.get("/healthz")).status_code == 200
                assert (await newcomer.get("/readyz")).status_code == 200
        # Late, but whole.
        late.links[0].sendall(f'"{event}"'.ljust(27).encode() + b"}")
        late.links[0].settimeout(20)
        assert (await asyncio.to_thread(late.links[0].recv, 100)).startswith(b"HTTP/1.1 202 ")
        assert "Traceback" not in api.log()


async def unfinished(api: Api) -> list[bytes]:
    """The answers to bodies that end nowhere."""
    async with (
        running(api),
        Slow(api, 1, BODY, b" ") as dripping,
        Slow(api, 1, HEAD + b"Content-Length: 5\r\n\r\n") as silent,
        Slow(api, 1, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n") as chunked,
    ):
        links = [one.links[0] for one in (dripping, silent, chunked)]
        answers = await asyncio.gather(*(asyncio.to_thread(receive, link) for link in links))
        assert "Traceback" not in api.log()
        return answers


async def test_a_body_that_does_not_come_is_given_up(redis_server: RedisServer, redis: Redis) -> None:
    # Both servers at once: they have nothing to do for many seconds.
    apis = [Api(redis_server.url, server=server) for server in ("granian", "uvicorn")]
    for answer in chain(*await asyncio.gather(*map(unfinished, apis))):
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"BODY_TIMEOUT"' in answer


class FewFiles(Api):
    """An api process that may open few files."""

    @property
    def command(self) -> list[str]:
        """What is run."""
        return ["sh", "-c", 'ulimit -n 600; exec "$@"', "sh", *super().command]


async def test_more_connections_than_files_do_not_stop_the_process(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    api = FewFiles(redis_server.url)
    async with running(api), Slow(api, 20, b"") as early, Slow(api, 700, b""):
        # These need connections to Redis that are not open yet, to the last of the eight.
        for number, link in enumerate(early.links):
            link.sendall(post(JOIN, {"event_id": f"{event}-{number}"}))
            link.settimeout(20)
        for link in early.links:
            assert (await asyncio.to_thread(link.recv, 1000)).startswith(b"HTTP/1.1 202 ")
