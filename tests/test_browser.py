"""The client that stands in for browsers reads streams and chunks, keeps to its connections, and can hang up."""

import asyncio
from contextlib import closing

import pytest

from shared.dev.redis_server import LOCALHOST
from tests.support.browser import Client, Event, NoAnswerError, Page, Stream
from tests.support.made_up_server import http, made_up_server

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENTS = b': hello\r\n\r\nretry: 500\nevent: place\ndata: {"a":\ndata: 1}\n\nevent: bye\ndata: {}\n\nevent: cut'
HEARD = [Event("", b"", 0), Event("place", b'{"a":\n1}', 500), Event("bye", b"{}", 0)]


def chunks(content: bytes, size: int) -> bytes:
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_events_are_heard_however_they_are_cut_into_chunks(size: int) -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(EVENTS, size) + b"0\r\n\r\n")

    async with made_up_server(answer) as port:
        stream = await Client([port]).listen("/live")
        assert isinstance(stream, Stream)
        with closing(stream):
            assert [event async for event in stream] == HEARD


async def test_a_stream_without_chunks_ends_with_its_connection() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n" + EVENTS)
        writer.close()

    async with made_up_server(answer) as port:
        stream = await Client([port]).listen("/live")
        assert isinstance(stream, Stream)
        with closing(stream):
            assert [event async for event in stream] == HEARD


async def test_an_answer_in_place_of_a_stream_is_a_page() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nRetry-After: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n")

    async with made_up_server(answer) as port:
        page = await Client([port]).listen("/live")
        assert isinstance(page, Page)
        assert (page.status, page.content, page.retry_after) == (503, b"{}", 2)


async def test_no_more_requests_than_connections_are_under_way() -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()
    free, open_now, most_open = asyncio.Event(), 0, 0

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most_open
        await asked.put(head)
        open_now += 1
        most_open = max(most_open, open_now)
        await free.wait()
        open_now -= 1
        writer.write(http(200))

    async with made_up_server(answer) as port:
        with closing(Client([port], most=2)) as client:
            asking = [asyncio.create_task(client.ask("GET", "/")) for _ in range(5)]
            await asked.get(), await asked.get()
            assert client.queued == 3
            free.set()
            assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 5
            assert (client.queued, most_open) == (0, 2)


async def test_whoever_hangs_up_has_asked_all_the_same() -> None:
    asked: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asked.put(head)

    async with made_up_server(answer) as port:
        await Client([port]).abandon("POST", "/join", headers={"Host": "here"})
        assert (await asked.get()).startswith(b"POST /join HTTP/1.1\r\nContent-Length: 0\r\nHost: here\r\n")


async def test_a_url_is_http_or_https() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200))

    async with made_up_server(answer) as port:
        with closing(Client.to(f"http://{LOCALHOST}:{port}")) as client:
            assert (await client.fetch("GET", "/")).status == 200
        # It speaks TLS to it, which that server does not understand.
        with pytest.raises(NoAnswerError):
            await Client.to(f"https://{LOCALHOST}:{port}", timeout=0.2).fetch("GET", "/")
    with pytest.raises(ValueError, match="no URL"):
        Client.to("tickets.example")
