"""Joins: the same person finds the same place, and everybody in a crowd finds one place."""

import asyncio

import httpx
import pytest
from redis.asyncio import Redis

from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.support.calls import enter, join, leave, redeem, status, try_enter, try_join
from tests.support.processes import Api
from tests.support.raw_http import crowd, post
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("redis")
KEY = "an-idempotency-key-of-32-letters"


async def test_500_joins_at_once_get_500_places_in_ticket_order(
    shared_api: Api, redis: Redis, signer: Signer, event: str
) -> None:
    asked = [post("/api/v1/queue/join", {"event_id": event})] * 500
    answers = [answer.json() for answer in await crowd(shared_api, asked)]
    by_ticket = sorted((signer.verify_waiting(one["waiting_token"]).ticket, one["position_hint"]) for one in answers)
    assert len({ticket for ticket, _ in by_ticket}) == 500
    assert [position for _, position in by_ticket] == list(range(1, 501))
    assert await redis.xlen(Keys().event(event).stream) == 500


async def test_50_enters_at_once_get_one_reservation(http: httpx.AsyncClient, redis: Redis, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    answers = await asyncio.gather(*(enter(http, token) for _ in range(50)))
    assert len({one["reservation_token"] for one in answers}) == 1
    assert await redis.zcard(Keys().event(event).admitted) == 1


async def test_50_redeems_at_once_let_one_in(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    reservation = (await enter(http, token))["reservation_token"]
    answers = await asyncio.gather(
        *(http.post("/api/v1/queue/redeem", json={"reservation_token": reservation}) for _ in range(50))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 49


async def test_a_replayed_join_finds_the_same_place(http: httpx.AsyncClient, event: str) -> None:
    first = await join(http, event, key=KEY)
    await join(http, event)
    again = await join(http, event, key=KEY)
    assert again["waiting_token"] == first["waiting_token"]
    assert (again["position_hint"], again["status"]) == (1, "waiting")


async def test_50_replays_at_once_find_one_place(http: httpx.AsyncClient, redis: Redis, event: str) -> None:
    answers = await asyncio.gather(*(join(http, event, key=KEY) for _ in range(50)))
    assert len({one["waiting_token"] for one in answers}) == 1
    assert await redis.xlen(Keys().event(event).stream) == 1


async def test_a_replay_after_the_ticket_left_is_a_new_join(http: httpx.AsyncClient, event: str) -> None:
    first = await join(http, event, key=KEY)
    await join(http, event)
    await leave(http, first["waiting_token"])
    again = await join(http, event, key=KEY)
    assert again["waiting_token"] != first["waiting_token"]
    assert again["position_hint"] == 2


async def test_a_replay_after_the_ticket_was_let_in_says_so(http: httpx.AsyncClient, event: str) -> None:
    first = await join(http, event, key=KEY)
    reservation = await enter(http, first["waiting_token"])
    again = await join(http, event, key=KEY)
    assert again["waiting_token"] == first["waiting_token"]
    assert (again["position_hint"], again["status"]) == (0, "admitted")
    await redeem(http, reservation["reservation_token"])
    refused(await try_enter(http, again["waiting_token"]), 409, "ALREADY_REDEEMED")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"label": "one"}, {"label": "two"}),
        ({"label": "one"}, {}),
        ({}, {"label": "one"}),
        ({"label": "one"}, {"user": "one"}),
        ({"user": "one"}, {"user": "two"}),
        ({"user": "one"}, {}),
    ],
)
async def test_somebody_elses_key_is_refused(
    http: httpx.AsyncClient, event: str, first: dict[str, str], second: dict[str, str]
) -> None:
    token = (await join(http, event, key=KEY, **first))["waiting_token"]
    answer = await try_join(http, event, key=KEY, **second)
    refused(answer, 422, "IDEMPOTENCY_KEY_REUSED")
    assert token not in answer.text


async def test_a_key_is_looked_at_before_the_place_of_the_user(http: httpx.AsyncClient, event: str) -> None:
    await join(http, event, user="holder of a place")
    await join(http, event, key=KEY, label="somebody else")
    refused(await try_join(http, event, key=KEY, user="holder of a place"), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_one_key_is_good_for_a_place_in_each_event(http: httpx.AsyncClient, event: str) -> None:
    here = await join(http, event, key=KEY)
    there = await join(http, f"{event}-too", key=KEY)
    assert (here["position_hint"], there["position_hint"]) == (1, 1)
    assert here["waiting_token"] != there["waiting_token"]


@pytest.mark.parametrize("length", [16, 128])
async def test_a_key_may_have_16_to_128_characters(http: httpx.AsyncClient, event: str, length: int) -> None:
    first = await join(http, event, key="k" * length)
    assert await join(http, event, key="k" * length) | {"poll_after_ms": 0} == first | {"poll_after_ms": 0}


async def test_a_verified_user_has_one_place_and_gets_their_own_token_back(http: httpx.AsyncClient, event: str) -> None:
    first = await join(http, event, user="u-1")
    assert (await join(http, event, user="u-2"))["position_hint"] == 2
    again = await join(http, event, user="u-1", key=KEY)
    assert (again["waiting_token"], again["position_hint"]) == (first["waiting_token"], 1)
    await leave(http, first["waiting_token"])
    anew = await join(http, event, user="u-1")
    assert (anew["waiting_token"] != first["waiting_token"], anew["position_hint"]) == (True, 2)


async def test_the_verified_user_counts_and_the_label_does_not(http: httpx.AsyncClient, event: str) -> None:
    one = await join(http, event, user="verified", label="label")
    assert (await join(http, event, user="verified", label="another"))["waiting_token"] == one["waiting_token"]
    entered = await enter(http, one["waiting_token"])
    assert (await redeem(http, entered["reservation_token"]))["user_id"] == "verified"


async def test_a_label_that_anyone_can_type_earns_no_place(http: httpx.AsyncClient, event: str) -> None:
    tokens = {(await join(http, event, label=label))["waiting_token"] for label in ("me", "me", "vme", "v")}
    victim = await join(http, event, user="me")
    assert len(tokens | {victim["waiting_token"]}) == 5


async def test_what_the_gateway_names_comes_back_as_it_was(http: httpx.AsyncClient, event: str) -> None:
    name = "사용자 名".encode()
    headers: list[tuple[bytes, bytes]] = [(b"X-User-Id", name)]
    joined = await http.post("/api/v1/queue/join", json={"event_id": event}, headers=headers)
    entered = await enter(http, joined.json()["waiting_token"])
    assert (await redeem(http, entered["reservation_token"]))["user_id"] == "사용자 名"


async def test_a_verified_user_that_is_not_utf8_is_refused_at_the_join(http: httpx.AsyncClient, event: str) -> None:
    for name in (b"\xff\xfe", b"x" * 129):
        headers: list[tuple[bytes, bytes]] = [(b"X-User-Id", name)]
        refused(
            await http.post("/api/v1/queue/join", json={"event_id": event}, headers=headers), 400, "INVALID_REQUEST"
        )


@pytest.mark.parametrize("names", [("me", "somebody"), ("somebody", "me"), ("me", "me"), ("me", ""), ("", "me")])
async def test_a_verified_user_that_is_named_twice_is_refused(
    http: httpx.AsyncClient, event: str, names: tuple[str, str]
) -> None:
    # One of them is the client's own, and which one cannot be told.
    headers = [("X-User-Id", names[0]), ("x-user-id", names[1])]
    answer = await http.post("/api/v1/queue/join", json={"event_id": event}, headers=headers)
    refused(answer, 400, "INVALID_REQUEST")


async def test_entering_keeps_the_others_in_order(http: httpx.AsyncClient, event: str) -> None:
    tokens = [(await join(http, event))["waiting_token"] for _ in range(4)]
    await enter(http, tokens[1])
    assert [(await status(http, tokens[i]))["position"] for i in (0, 2, 3)] == [1, 2, 3]
