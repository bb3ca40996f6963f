"""One stream: what is sent when its client is slow, and what counts as news."""

import asyncio

import pytest

from api.queue.listener import Listener, Seen, event
from shared.tokens.signer import WaitingToken

SEEN = Seen("waiting", 2000, paused=False, full=False, reason="")


class Counts:
    """What the listener reports."""

    def __init__(self) -> None:
        self.skipped = self.closed = 0

    def skip(self) -> None:
        self.skipped += 1

    def close(self, listener: Listener) -> None:
        self.closed += 1


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
async def listener(counts: Counts) -> Listener:
    token = WaitingToken("concert", 1_795_489_214_696_517, 1_795_489_214_883)
    return Listener(token, "a token", bytes, "a trace", ends_at=600, skipped=counts.skip, closed=counts.close)


async def test_what_is_not_sent_yet_is_replaced_by_what_is_newer(listener: Listener, counts: Counts) -> None:
    for number in range(5):
        listener.offer(b"%d" % number, number)
    assert await anext(listener) == b"4"
    assert counts.skipped == 4
    waiting = asyncio.create_task(anext(listener))
    await asyncio.sleep(0)
    assert not waiting.done()
    listener.offer(b"5", 5)
    assert await waiting == b"5"
    assert counts.skipped == 4


async def test_what_comes_before_the_reader_has_woken_up_is_in_time(listener: Listener, counts: Counts) -> None:
    waiting = asyncio.create_task(anext(listener))
    await asyncio.sleep(0)
    for number in range(3):
        listener.offer(b"%d" % number, number)
    assert await waiting == b"2"
    assert counts.skipped == 2
    # Its client goes while it waits, and its last news come before that is noticed.
    waiting = asyncio.create_task(anext(listener))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    listener.offer(b"3", 3)
    listener.end("drain", b"bye")


async def test_a_comment_replaces_nothing(listener: Listener, counts: Counts) -> None:
    listener.offer(b"news", 1)
    listener.keep_alive(16)
    assert (await anext(listener), listener.told_at) == (b"news", 16)
    listener.keep_alive(31)
    assert await anext(listener) == b": keep-alive\n\n"
    assert counts.skipped == 0


async def test_it_ends_after_its_last_chunk(listener: Listener, counts: Counts) -> None:
    listener.offer(b"a place that is not true any more", 0)
    listener.end("gone", b"gone")
    listener.end("drain", b"bye")
    assert [chunk async for chunk in listener] == [b"gone"]
    await listener.aclose()
    assert (listener.end_reason, counts.closed) == ("gone", 1)


async def test_one_that_waits_ends_too(listener: Listener, counts: Counts) -> None:
    waiting = asyncio.create_task(anext(listener, b"over"))
    await asyncio.sleep(0)
    await listener.aclose()
    assert await waiting == b"over"
    assert (listener.end_reason, counts.closed) == ("left", 1)


async def test_news_is_what_people_see(listener: Listener) -> None:
    assert listener.notices(SEEN, 100.0, 0)
    listener.remember(SEEN, 100.0, 0)
    # A wait that passes is none; one that is a little off neither.
    assert not listener.notices(SEEN, 70.0, 30)
    assert not listener.notices(SEEN, 76.0, 30)
    assert listener.notices(SEEN, 90.0, 30)
    assert listener.notices(SEEN, 50.0, 30)
    assert listener.notices(SEEN, None, 30)
    for other in (
        SEEN._replace(position=1999),
        SEEN._replace(status="ready"),
        SEEN._replace(paused=True),
        SEEN._replace(full=True),
        SEEN._replace(reason="cap"),
    ):
        assert listener.notices(other, 70.0, 30)
    # Of a short wait a tenth is nothing that anybody would see.
    listener.remember(SEEN, 8.0, 30)
    assert not listener.notices(SEEN, 8.0, 32)
    assert listener.notices(SEEN, 8.0, 34)
    listener.remember(SEEN, None, 40)
    assert not listener.notices(SEEN, None, 400)
    assert listener.notices(SEEN, 5.0, 400)


def test_an_event_is_in_the_form_of_server_sent_events() -> None:
    assert event("place", b"{}") == b"event: place\ndata: {}\n\n"
    assert event("bye", b"{}", 1200) == b"retry: 1200\nevent: bye\ndata: {}\n\n"
