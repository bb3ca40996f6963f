"""Streams over either protocol: pieces arrive as they are made, and the stream ends when the client is gone."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from shared.dev.redis_server import LOCALHOST
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiting import eventually

SERVERS = {
    "rsgi": ["granian", "--interface", "rsgi", "tests.support.streaming_app:create_rsgi_app"],
    "asgi": ["granian", "--interface", "asgi", "tests.support.streaming_app:create_app"],
    "uvicorn": ["uvicorn", "tests.support.streaming_app:create_app"],
}


@contextmanager
def serving(server: str, notes: Path) -> Iterator[str]:
    """Its URL, while it runs."""
    port = free_port()
    command = [sys.executable, "-m", *SERVERS[server], "--factory", "--host", LOCALHOST, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={"STREAMING_APP_NOTES": str(notes)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://{LOCALHOST}:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def streams(server: str, tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """A client of each server, and what its streams say when they are closed."""
    notes = tmp_path / "notes"
    notes.touch()
    with serving(server, notes) as url:
        async with httpx.AsyncClient(base_url=url) as http:

            async def up() -> bool:
                try:
                    return (await http.get("/nothing")).status_code == 404
                except httpx.TransportError:
                    return False

            await eventually(up)
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
