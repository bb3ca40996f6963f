"""Attacks: names, identities, keys and requests that try to pass for something else."""

import asyncio
import itertools
import json

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from shared.tokens.signer import Signer
from tests.api.bad_requests import ENTER, JOIN, STATUS
from tests.support.calls import enter, join, leave, redeem, running, status, try_join
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused
from workers.jobs.repair import repair_event

pytestmark = pytest.mark.usefixtures("redis")

# Each of them as somebody may call themselves, verified or not, in the hope of being taken for "victim".
NAMES = (
    "victim", "uvictim", "vvictim", "Victim", "victim ", "victim\0", "\0victim", "victim\n", "v", "u", "0", "-", "~",
    "1795489214696517", "1795489214883 1 vvictim", "0 0 vvictim", "w~concert~1795489214696517~gtIKMKKu7PK6Iy7H-dybGw",
    "places:event:{concert}", "stream:event:{concert}:rebuild", "*", "{}", "%s", "../victim", "'; return 1 --",
    "v\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ctim", "\N{RIGHT-TO-LEFT OVERRIDE}mitciv",
    "\N{SNOWMAN}" * 128,
)  # fmt: skip
KEY = "an-idempotency-key-of-32-letters"
NEAR_KEYS = (
    KEY, KEY.upper(), KEY[:-1], f"{KEY}-", KEY[::-1], f"{KEY}~", "k" * 16, "k" * 17, "k" * 128,
    f'"{KEY}"', f"{KEY},{KEY}", f"{KEY} {KEY}", f"{KEY}\t{KEY}",
)  # fmt: skip


async def join_as(http: httpx.AsyncClient, event: str, *, label: str | None = None, user: str | None = None) -> str:
    """What can be in a header goes into the header."""
    body = {"event_id": event} if label is None else {"event_id": event, "user_id": label}
    headers = [] if user is None else [(b"X-User-Id", user.encode())]
    answer = await http.post(JOIN, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    token: str = answer.json()["waiting_token"]
    return token


async def test_nobody_is_taken_for_somebody_else_by_their_name(http: httpx.AsyncClient, event: str) -> None:
    in_headers = [name for name in NAMES if name.isprintable() and name == name.strip() and len(name.encode()) <= 128]
    assert len(in_headers) >= 20
    verified = {name: await join_as(http, event, user=name) for name in in_headers}
    labelled = {name: await join_as(http, event, label=name) for name in NAMES}
    # A place each, whatever the others are called; and the verified ones find theirs again, by their own name only.
    assert len({*verified.values(), *labelled.values()}) == len(verified) + len(labelled)
    for name, token in verified.items():
        assert await join_as(http, event, user=name, label="victim") == token
    for name, token in (*verified.items(), *labelled.items()):
        reservation = (await enter(http, token))["reservation_token"]
        assert (await redeem(http, reservation))["user_id"] == name


async def test_everybody_is_who_they_were_after_the_log_was_lost(
    http: httpx.AsyncClient, live_line: Line, redis: Redis, event: str
) -> None:
    names = [name for name in NAMES if name.isprintable() and name == name.strip() and len(name.encode()) <= 128]
    verified = {name: await join_as(http, event, user=name) for name in names}
    label = await join_as(http, event, label="victim")
    await redis.delete(Keys().event(event).stream)
    await repair_event(live_line, event)
    for name, token in verified.items():
        assert await join_as(http, event, user=name) == token
        reservation = (await enter(http, token))["reservation_token"]
        assert (await redeem(http, reservation))["user_id"] == name
    # They have given up their places, as those whom the log knows to be verified do.
    assert not await redis.exists(Keys().event(event).places)
    # Of a label nothing was left.
    reservation = (await enter(http, label))["reservation_token"]
    assert (await redeem(http, reservation))["user_id"] is None


async def test_keys_that_nearly_agree_are_different_keys(http: httpx.AsyncClient, redis: Redis, event: str) -> None:
    for name in ("one", "two"):
        tokens = {}
        for key in NEAR_KEYS:
            headers = [(b"Idempotency-Key", f"{name}-{key}"[:128].encode("latin-1"))]
            for _ in range(2):
                answer = await http.post(JOIN, json={"event_id": event, "user_id": name}, headers=headers)
                tokens[key] = answer.json()["waiting_token"]
        assert len(set(tokens.values())) == len(NEAR_KEYS)
    assert await redis.xlen(Keys().event(event).stream) == 2 * len(NEAR_KEYS)


async def test_a_key_and_a_user_whose_letters_run_together_belong_to_nobody_else(
    http: httpx.AsyncClient, event: str
) -> None:
    whole = f"{KEY}user"
    joined = [
        await join(http, event, key=whole[:length], label=whole[length:] or None)
        for length in range(len(KEY), len(whole) + 1)
    ]
    assert len({one["waiting_token"] for one in joined}) == len(joined)


async def test_the_last_of_two_keys_in_a_request_counts(http: httpx.AsyncClient, event: str) -> None:
    first = await join(http, event, key=KEY)
    headers = [("Idempotency-Key", KEY), ("Idempotency-Key", f"{KEY}-2")]
    answer = await http.post(JOIN, json={"event_id": event}, headers=headers)
    assert answer.json()["waiting_token"] != first["waiting_token"]
    assert (await join(http, event, key=f"{KEY}-2"))["waiting_token"] == answer.json()["waiting_token"]


async def test_the_last_of_two_members_with_one_name_in_a_body_counts(
    http: httpx.AsyncClient, signer: Signer, event: str
) -> None:
    body = f'{{"event_id": "{event}-x", "user_id": "x", "event_id": "{event}", "user_id": "y"}}'
    token = (await http.post(JOIN, content=body)).json()["waiting_token"]
    assert signer.verify_waiting(token).event_id == event
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for tokens, expected in (((token, forged), 400), ((forged, token), 200)):
        members = ", ".join(f'"waiting_token": {json.dumps(one)}' for one in tokens)
        assert (await http.post(ENTER, content=f"{{{members}}}")).status_code == expected


async def test_the_first_of_two_tokens_in_a_query_counts(http: httpx.AsyncClient, event: str) -> None:
    mine, victims = [(await join(http, event))["waiting_token"] for _ in range(2)]
    for query, position in (
        (f"token={mine}&token={victims}", 1),
        (f"x=1&token={victims}&token={mine}", 2),
        (f"Token={mine}&token={victims}", 2),
    ):
        assert (await http.get(f"{STATUS}?{query}")).json()["position"] == position
    refused(await http.get(f"{STATUS}?token={mine};token={victims}"), 400, "INVALID_TOKEN")
    refused(await http.get(f"{STATUS}?token[]={mine}"), 400, "MISSING_TOKEN")
    refused(await http.get(f"{STATUS}?token=%0d%0aSet-Cookie:%20a=b"), 400, "INVALID_TOKEN")


async def test_a_header_that_only_looks_like_the_gateways_names_nobody(http: httpx.AsyncClient, event: str) -> None:
    token = await join_as(http, event, user="victim")
    for name in ("X_User_Id", "X-User-Id-", "HTTP-X-User-Id", "X-Forwarded-X-User-Id"):
        answer = await http.post(JOIN, json={"event_id": event}, headers={name: "victim"})
        assert answer.json()["waiting_token"] != token


async def test_events_named_like_our_own_keys_are_events_like_all_others(http: httpx.AsyncClient, event: str) -> None:
    parts = (":new", ":rebuild", ":health:", "-", ".", "..")
    names = ("events", "pulse", "sweep", "stream:event:", ":", ".", *(f"{event}{part}" for part in parts))
    tokens = {name: [await join(http, name), await join(http, name)] for name in (event, *names)}
    for found in tokens.values():
        assert [one["position_hint"] for one in found] == [1, 2]
        await leave(http, found[0]["waiting_token"])
        assert (await status(http, found[1]["waiting_token"]))["position"] == 1


async def test_a_flood_of_names_all_at_once_stays_within_the_cap(redis_server: RedisServer, redis: Redis) -> None:
    cap = 20
    api = Api(redis_server.url, max_events=cap, key_prefix="flooded:")
    async with running(api):
        for attempt in range(2):
            names = (f"flood-{attempt}-{number}" for number in range(400))
            answers = await crowd(api, [post(JOIN, {"event_id": name}) for name in names])
            assert {answer.status_code for answer in answers} <= {202, 503}
            for answer in answers:
                if answer.status_code == 503:
                    refused(answer, 503, "OVERLOADED")
        # Twice: what was opened a moment ago may be missing when the list is counted, once a second.
        assert cap // 2 <= await redis.zcard("flooded:events") <= 2 * cap


async def test_when_events_must_be_declared_a_flood_of_names_leaves_nothing(
    redis_server: RedisServer, redis: Redis
) -> None:
    api = Api(redis_server.url, open_events=False, key_prefix="declared:")
    async with running(api) as http:
        names = [f"flood-{number}" for number in range(200)]
        for answer in await crowd(api, [post(JOIN, {"event_id": name}, "X-User-Id: me") for name in names]):
            refused(answer, 404, "EVENT_NOT_FOUND")
        # This one has no gateway: whoever says who they are is nobody all the same.
        assert (await try_join(http, names[0], user="me")).status_code == 404
        assert [key async for key in redis.scan_iter("declared:*")] == ["declared:pulse"]


SOUND = b'{"event_id": "event"}'
CHUNK = b"15\r\n" + SOUND + b"\r\n0\r\n\r\n"
WELL_FRAMED = {"a length": (b"Content-Length: 21", SOUND), "chunked": (b"Transfer-Encoding: chunked", CHUNK)}
ILL_FRAMED = {
    "two lengths that differ": (b"Content-Length: 21\r\nContent-Length: 5", SOUND),
    "a list of lengths": (b"Content-Length: 21, 5", SOUND),
    "a length below zero": (b"Content-Length: -21", SOUND),
    "a length with a sign": (b"Content-Length: +21", SOUND),
    "a length in hex": (b"Content-Length: 0x15", SOUND),
    "a length beyond all": (b"Content-Length: 99999999999999999999", SOUND),
    "a space before a colon": (b"Content-Length : 21", SOUND),
    "a folded header": (b"Content-Length: 21\r\nX-Request-ID: a\r\n b", SOUND),
    "NUL in a header": (b"Content-Length: 21\r\nX-Request-ID: a\0b", SOUND),
    "a bare CR in a header": (b"Content-Length: 21\r\nX-Request-ID: a\rb: c", SOUND),
    "a space in a header's name": (b"Content-Length: 21\r\nX Request: a", SOUND),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\nContent-Length: 21", SOUND),
    "chunked not last": (b"Transfer-Encoding: chunked, identity", CHUNK),
    "a chunk's size no number": (b"Transfer-Encoding: chunked", CHUNK.replace(b"15", b"zz")),
    "a chunk's size below zero": (b"Transfer-Encoding: chunked", CHUNK.replace(b"15", b"-15")),
    "a chunk's size beyond all": (b"Transfer-Encoding: chunked", CHUNK.replace(b"15", b"f" * 17)),
    "a chunk longer than its size": (b"Transfer-Encoding: chunked", CHUNK.replace(b"15", b"5")),
}


@pytest.mark.parametrize("framing", [*WELL_FRAMED, *ILL_FRAMED])
async def test_a_request_that_can_be_read_in_two_ways_is_refused(shared_api: Api, redis: Redis, framing: str) -> None:
    headers, body = (WELL_FRAMED | ILL_FRAMED)[framing]
    reader, writer = await asyncio.open_connection(LOCALHOST, shared_api.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: daegi\r\n%b\r\n\r\n%b" % (JOIN.encode(), headers, body))
    status_line = await reader.readline()
    writer.close()
    sound = framing in WELL_FRAMED
    assert status_line.startswith(b"HTTP/1.1 202 " if sound else b"HTTP/1.1 400 ")
    assert await redis.exists(Keys().event("event").stream) == sound


async def test_no_answer_carries_more_than_its_own_headers(http: httpx.AsyncClient, event: str) -> None:
    evil = {"X-Request-ID": "a", "Origin": "https://evil.example", "Cookie": "a=b", "Location": "https://evil.example"}
    usual = {"content-type", "cache-control", "content-length", "server", "date", "vary", "retry-after"}
    token = await join_as(http, event)
    answers = [
        await http.post(JOIN, json={"event_id": f"{event}\r\nSet-Cookie: a=b"}, headers=evil),
        await http.post(JOIN, json={"event_id": event}, headers=evil),
        await http.get(f"{STATUS}?token={token}%0d%0aSet-Cookie:a=b", headers=evil),
        await http.get(f"{STATUS}?token={token}", headers=evil),
        await http.get("/%0d%0aLocation:%20https://evil.example", headers=evil),
    ]
    assert [answer.status_code for answer in answers] == [400, 202, 400, 200, 404]
    assert set(itertools.chain.from_iterable(answer.headers for answer in answers)) <= usual
