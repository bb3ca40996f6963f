"""A person of `make crowd` does what the page and its script do, before a room whose answers are made up."""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.crowd import ear, tab
from tests.crowd.judge import NEWS
from tests.crowd.ledger import End, Ledger
from tests.crowd.person import TIMEOUT, Person
from tests.crowd.town import Character, Fate, Town
from tests.support import page_script
from tests.support.browser import Client
from tests.support.made_up_server import http, made_up_server
from tests.support.paths import ROOT

TICKET = 1_795_000_000_000_000
WAITING = f"w~sale~{TICKET}~1795000001000~mac"
PASS = f"p~sale~{TICKET}~1795000002000~1795000032000~mac"
Streams = list[list[tuple[str, Any]] | None]
GONE = {"error": {"code": "TOKEN_EXPIRED"}}


def place(position: int = 5, **known: Any) -> dict[str, Any]:
    """What the room says of somebody's place."""
    told = {"status": "waiting", "state": "waiting", "position": position, "poll_after_ms": 20, "eta_sec": 60}
    return told | {"waiting_token": WAITING} | known


READY = place(1, status="ready", state="ready")


@dataclass
class Room:
    """Its answers. Of `places` and `streams` the last one stays; a stream is a list of events, after which it ends."""

    places: list[dict[str, Any]] = field(default_factory=lambda: [READY])
    streams: Streams = field(default_factory=lambda: [None])
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    async def answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        text = head.decode()
        what = text.split()[1].partition("?")[0].removeprefix("/waiting-room/sale").removeprefix("/") or "page"
        what = "gate" if "gate" in what else what
        self.asked.append(what)
        self.heads.append(text)
        match what:
            case "page" if "daegi_v_x" not in text:
                to = "Location: /waiting-room/sale?next=%2F&probe=1"
                writer.write(http(303, b"", to, "Set-Cookie: daegi_v_x=probe; Path=/"))
            case "page":
                writer.write(http(200, b'<main data-state="join">'))
            case "join":
                kept = f"Set-Cookie: daegi_w_x={WAITING}; Path=/"
                writer.write(http(202, json.dumps({"waiting_token": WAITING, "position_hint": 5}).encode(), kept))
            case "place":
                said = self.places.pop(0) if len(self.places) > 1 else self.places[0]
                writer.write(http(404 if "error" in said else 200, json.dumps(said).encode()))
            case "enter":
                writer.write(http(200, b'{"location": "/"}', f"Set-Cookie: daegi_p_x={PASS}; Path=/"))
            case "live":
                await self._stream(writer)
            case _:
                writer.write(http(200))

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        events = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
        if events is None:
            writer.write(http(503, b'{"error": {"code": "OVERLOADED"}}'))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for name, data in events:
            writer.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        writer.close()


@dataclass
class Lived:
    """What became of one person."""

    person: Person
    ledger: Ledger
    room: Room


Live = Callable[..., Any]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    """Lets a person live before a room until they have ended."""
    monkeypatch.setattr(ear, "RETURN", 0.02)
    monkeypatch.setattr(tab, "back_off", lambda failures, retry_after, chance: 0.01)

    @asynccontextmanager
    async def town(room: Room) -> AsyncIterator[Town]:
        async with made_up_server(room.answer) as port:
            client = Client([port])
            yield Town(
                client,
                Ledger(),
                event="sale",
                host="here",
                scheme="http",
                gate=True,
                random=random.Random(1),
                rate=100,
                heartbeat_ttl=300,
                stay=0,
                began=time.monotonic(),
            )
            client.close()

    async def one(room: Room, fate: Fate = Fate.ENTERS, **character: bool) -> Lived:
        async with town(room) as around:
            person = Person(around, 1, Character(fate, **character))
            await asyncio.wait_for(person.live(), 10)
        assert around.ledger.wrong == []
        return Lived(person, around.ledger, room)

    return one


def test_its_times_are_those_of_the_page() -> None:
    script = (ROOT / "api" / "room" / "assets" / "room.js").read_text()
    known = {name: int(value) for name, value in re.findall(r"^const (\w+) = (\d+);$", script, re.MULTILINE)}
    ours = {
        "RETRY_FIRST": page_script.FIRST_RETRY,
        "RETRY_MOST": page_script.LONGEST_RETRY,
        "TIMEOUT": TIMEOUT,
        "FIRST_EVENT": ear.FIRST_EVENT,
        "QUIET": ear.QUIET,
        "LISTEN_AGAIN": ear.LISTEN_AGAIN,
        "RETURN": ear.RETURN,
        "LATE_IS_NEWS": NEWS,
    }
    assert {name: known[name] for name in ours} == {name: value * 1000 for name, value in ours.items()}
    assert known["STREAM_FAILURES"] == ear.STREAM_FAILURES


async def test_somebody_comes_waits_and_goes_in(live: Live) -> None:
    lived = await live(Room([place(9), place(4), READY]))
    assert lived.room.asked == ["page", "page", "join", "place", "place", "place", "enter", "gate"]
    assert "Cookie: daegi_v_x=probe" in lived.room.heads[1]
    assert "Idempotency-Key: " in lived.room.heads[2]
    story = lived.person.story
    assert (story.end, story.ticket, [one.position for one in story.told]) == (End.ADMITTED, TICKET, [9, 4, 1])
    assert (lived.ledger.joined, lived.ledger.admitted, lived.ledger.doubles) == (1, 1, [])


async def test_a_join_whose_answer_is_lost_is_repeated_with_its_key(live: Live) -> None:
    lived = await live(Room(), loses_join=True)
    joins = [head for head in lived.room.heads if " /waiting-room/sale/join" in head]
    keys = {line for head in joins for line in head.split("\r\n") if line.startswith("Idempotency-Key")}
    assert (len(joins), len(keys)) == (2, 1)
    assert lived.person.story.end is End.ADMITTED


async def test_two_clicks_are_two_joins_at_once(live: Live) -> None:
    lived = await live(Room(), clicks_twice=True)
    assert lived.room.asked.count("join") == 2
    assert (lived.person.story.end, lived.ledger.doubles) == (End.ADMITTED, [])


async def test_a_stream_takes_the_place_of_polls(live: Live) -> None:
    streams: Streams = [[("place", place(4)), ("place", place(3)), ("place", READY)]]
    lived = await live(Room([place(9)], streams), listens=True)
    assert lived.room.asked == ["page", "page", "join", "place", "live", "enter", "gate"]
    assert [one.position for one in lived.person.story.told] == [9, 4, 3, 1]
    assert lived.person.story.listens


async def test_whoever_may_not_listen_polls(live: Live) -> None:
    lived = await live(Room([place(9), place(8), READY], [None]), listens=True)
    assert lived.room.asked.count("live") == 1
    assert (lived.ledger.fallbacks, lived.person.story.end, lived.person.story.listens) == (1, End.ADMITTED, False)


async def test_a_stream_that_breaks_three_times_is_given_up(live: Live) -> None:
    places = [place(position) for position in range(20, 8, -1)]
    lived = await live(Room([*places, READY], [[]]), listens=True)
    assert lived.room.asked.count("live") == 3
    assert (lived.ledger.fallbacks, lived.person.story.end) == (1, End.ADMITTED)


async def test_whoever_is_sent_away_comes_back(live: Live) -> None:
    streams: Streams = [[("place", place(4)), ("bye", {"reason": "drain", "reconnect_ms": 10})], [("place", READY)]]
    lived = await live(Room([place(9)], streams), listens=True)
    assert lived.room.asked.count("live") == 2
    assert lived.room.asked.count("place") == 1
    assert (lived.ledger.fallbacks, lived.person.story.end) == (0, End.ADMITTED)


async def test_an_event_that_is_older_than_a_poll_is_passed_over(live: Live) -> None:
    old = place(7, waiting_token=f"w~sale~{TICKET}~1795000000999~mac")
    lived = await live(Room([place(5)], [[("place", old), ("place", READY)]]), listens=True)
    assert [one.position for one in lived.person.story.told] == [5, 1]


async def test_a_place_that_is_gone_is_lost(live: Live) -> None:
    for room in (Room([place(9), GONE]), Room([place(9), GONE], [[("gone", GONE)]])):
        lived = await live(room, listens=True)
        assert lived.person.story.end is End.LOST


async def test_whoever_never_enters_loses_their_turn_not_their_place(live: Live) -> None:
    lived = await live(Room([place(9), READY, READY, GONE]), Fate.NEVER_ENTERS)
    story = lived.person.story
    assert (story.end, "enter" in lived.room.asked) == (End.NEVER_ENTERED, False)
    assert story.until is not None
    assert story.until < story.told[-1].at


async def test_whoever_leaves_says_so_and_whoever_vanishes_does_not(live: Live) -> None:
    endless = [place(9, eta_sec=0.1)]
    left, vanished = await live(Room(endless), Fate.LEAVES), await live(Room(endless), Fate.VANISHES)
    assert (left.person.story.end, left.room.asked[-1]) == (End.LEFT, "leave")
    assert (vanished.person.story.end, vanished.room.asked[-1]) == (End.VANISHED, "place")


async def test_a_hidden_tab_wakes_late_and_is_absent_meanwhile(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab, "LATE", 0.0)
    seen = await live(Room([place(9), place(8), READY]))
    assert seen.person.story.steady_since > seen.person.story.told[1].at
    monkeypatch.setattr(tab, "LATE", 0.5)
    monkeypatch.setattr(tab, "WAKE", 1.0)
    lived = await live(Room([place(9), place(8), READY]), hidden=True)
    told = lived.person.story.told
    # Its timers of 20 ms end with the second's.
    assert told[2].at - told[1].at > 0.5
    assert lived.person.story.steady_since > told[1].at
