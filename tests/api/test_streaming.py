"""Streams over either protocol: pieces arrive as they are made, and the stream ends when the client is gone."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from api.http.slow_readers import Reader
from shared.dev.redis_server import LOCALHOST
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.streaming_app import MUCH
from tests.support.waiting import eventually

SERVERS = {
    "rsgi": ["granian", "--interface", "rsgi", "tests.support.streaming_app:create_rsgi_app"],
    "asgi": ["granian", "--interface", "asgi", "tests.support.streaming_app:create_app"],
    "uvicorn": ["uvicorn", "tests.support.streaming_app:create_app"],
}


@contextmanager
def serving(server: str, notes: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process, while it runs."""
    port = free_port()
    command = [sys.executable, "-m", *SERVERS[server], "--factory", "--host", LOCALHOST, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={"STREAMING_APP_NOTES": str(notes)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://{LOCALHOST}:{port}", process
    finally:
        process.terminate()
        process.wait(10)


async def _is_up(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/nothing")).status_code == 404
    except httpx.TransportError:
        return False


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def streams(server: str, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """A client of each server, and what its streams say when they are closed."""
    notes = tmp_path / "notes"
    notes.touch()
    with serving(server, notes) as (url, _):
        async with httpx.AsyncClient(base_url=url) as http:
            await eventually(lambda: _is_up(http))
            yield http, notes


async def test_pieces_arrive_as_they_are_made_and_a_client_that_goes_ends_them(
    streams: tuple[httpx.AsyncClient, Path],
) -> None:
    http, notes = streams
    async with http.stream("GET", "/forever") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.aiter_lines()
        # There is no end to wait for.
        assert [await anext(lines) for _ in range(5)] == [f"line {number}" for number in range(5)]
        assert notes.read_text() == ""

    async def closed() -> bool:
        return notes.read_text() == "/forever closed\n"

    await eventually(closed)


async def test_a_stream_that_ends_is_complete(streams: tuple[httpx.AsyncClient, Path]) -> None:
    http, notes = streams
    for _ in range(2):
        answer = await http.get("/three")
        assert answer.text == "line 0\nline 1\nline 2\n"
    assert notes.read_text() == "/three closed\n" * 2


async def test_a_stream_that_fails_ends(streams: tuple[httpx.AsyncClient, Path], server: str) -> None:
    http, notes = streams
    if server == "rsgi":
        # It has no way to say so; whoever reads events there comes back as after any other end.
        assert (await http.get("/broken")).text == "line 0\n"
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/broken")
    assert notes.read_text() == "/broken closed\n"


async def test_a_client_that_does_not_read_is_dropped_and_nobody_else(
    streams: tuple[httpx.AsyncClient, Path],
) -> None:
    http, notes = streams
    assert http.base_url.port
    with socket.create_connection((LOCALHOST, http.base_url.port)) as deaf:
        deaf.sendall(b"GET /fat HTTP/1.1\r\nHost: daegi\r\n\r\n")
        # Whoever takes what they are sent may be sent any amount, and it may be the last for long.
        async with http.stream("GET", "/much") as much, http.stream("GET", "/forever") as answer:
            lines = much.aiter_lines()
            for _ in range(MUCH):
                await anext(lines)
            after = 0
            async for _ in answer.aiter_lines():
                after += "/fat closed\n" in notes.read_text()
                if after == 10:
                    break
            assert notes.read_text() == "/fat closed\n"
        # What is left ends: nothing is kept for it any more.
        deaf.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while deaf.recv(1 << 20):
                pass


@pytest.mark.parametrize("path", ["/fat", "/flood"])
async def test_a_server_ends_in_order_although_a_client_does_not_read(server: str, path: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with serving(server, notes) as (url, process):
        async with httpx.AsyncClient(base_url=url) as http:
            await eventually(lambda: _is_up(http))
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                deaf.connect((LOCALHOST, http.base_url.port or 0))
                deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: daegi\r\n\r\n".encode())
                # Until there is more than the system's buffers hold: the server itself cannot get rid of the rest.
                await asyncio.sleep(4)
                # A stream that nobody ends, to somebody who does read.
                async with http.stream("GET", "/forever"):
                    process.terminate()
                    await asyncio.to_thread(process.wait, 20)
    *streams, last = notes.read_text().splitlines()
    assert (sorted(streams), last) == (sorted([f"{path} closed", "/forever closed"]), "stopped")


def test_a_chunk_may_take_half_a_minute_where_the_server_waits_for_its_client() -> None:
    reader = Reader(None)
    assert not reader.is_slow(1000)
    # Less than it may be behind, and yet it takes nothing any more: its own buffers are small.
    reader.sending_since = 1000
    assert not reader.is_slow(1029)
    assert reader.is_slow(1031)
    reader.sending_since = None
    assert not reader.is_slow(2000)
