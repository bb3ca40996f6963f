"""A Redis that accepts a connection and hangs up during the handshake, as a killed one sometimes does."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.support.calls import running, try_join
from tests.support.processes import Api, Worker
from tests.support.refusals import refused, retry_after
from tests.support.waiting import eventually

NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER, with which close() resets the connection."""


@pytest.fixture
def hanging_up() -> Iterator[int]:
    """The port of one; it answers the first command and is gone."""
    server = socket.create_server((LOCALHOST, 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                connection.recv(1 << 16)
                connection.sendall(b"+OK\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        over.set()
        # Wakes it up.
        socket.create_connection(server.getsockname()).close()
        thread.join()
        server.close()


async def test_it_is_unavailable_like_any_other(hanging_up: int, event: str) -> None:
    url = f"redis://{LOCALHOST}:{hanging_up}/0"
    api = Api(url, probe="/healthz")
    async with running(api) as http:
        for _ in range(20):
            answer = await try_join(http, event)
            refused(answer, 503, "UNAVAILABLE")
            assert retry_after(answer) <= 10

        async def said() -> bool:
            return "redis is unavailable" in api.log()

        await eventually(said)
        assert "Traceback" not in api.log()


async def test_a_worker_outlives_a_job_queue_like_that(hanging_up: int, redis_server: RedisServer) -> None:
    with Worker(redis_server.url, jobs_redis_url=f"redis://{LOCALHOST}:{hanging_up}/0") as worker:

        async def said() -> bool:
            return "the job queue is unavailable" in worker.log()

        await eventually(said)
        assert await asyncio.to_thread(worker.stop) == 0
        assert "Traceback" not in worker.log()
