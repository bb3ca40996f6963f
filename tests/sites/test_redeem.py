"""The JWT that a backend is given for a reservation: what it says, how long it is good, and that it stays the same."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from redis.asyncio import Redis

from shared.tokens.signer import Signer
from tests.sites.conftest import SignedApi, in_node, in_python
from tests.support.calls import client, configure, enter, join, redeem
from tests.support.processes import Api

KEY = {"Idempotency-Key": "order-4711-attempt"}


async def reserve(http: httpx.AsyncClient, event: str, user: str | None = None) -> str:
    """The reservation token of somebody who came in."""
    return str((await enter(http, (await join(http, event, user=user))["waiting_token"]))["reservation_token"])


async def redeem_with_key(http: httpx.AsyncClient, reservation: str) -> Any:
    answer = await http.post("/api/v1/queue/redeem", json={"reservation_token": reservation}, headers=KEY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def claims(token: str) -> dict[str, Any]:
    """What it says, whoever signed it."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


@pytest.fixture
async def http(site_api: SignedApi, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the api that signs."""
    async with client(site_api.url) as opened:
        yield opened


async def test_it_says_who_was_let_in_by_whom_for_what_and_until_when(
    http: httpx.AsyncClient, site_api: SignedApi, signer: Signer, event: str
) -> None:
    await configure(http, event, session_ttl=120)
    before = int(time.time())
    reservation = await reserve(http, event, user="somebody@example.org")
    answer = await redeem(http, reservation)
    token = claims(answer["pass_jwt"])
    ticket = signer.verify_reservation(reservation).ticket
    issued = token.pop("iat")
    assert before <= issued <= time.time()
    assert token.pop("jti").startswith(f"{event}~{ticket}~")
    assert token == {"iss": site_api.url, "aud": event, "sub": str(ticket), "nbf": issued, "exp": issued + 120}
    # Whoever they are is the backend's to know.
    assert answer["user_id"] == "somebody@example.org"
    assert "somebody" not in str(token)


async def test_the_answer_to_the_same_key_is_the_same_to_the_byte(http: httpx.AsyncClient, event: str) -> None:
    reservation = await reserve(http, event)
    assert await redeem_with_key(http, reservation) == await redeem_with_key(http, reservation)


async def test_it_ends_with_the_session_limit(http: httpx.AsyncClient, event: str) -> None:
    await configure(http, event, session_ttl=300, session_limit=60)
    before = time.time()
    token = claims((await redeem(http, await reserve(http, event)))["pass_jwt"])
    assert before + 59 < token["exp"] <= time.time() + 60


@pytest.mark.parametrize("session_ttl", [20, 20.5])
async def test_it_is_good_at_once_though_the_session_ttl_was_shortened_meanwhile(
    http: httpx.AsyncClient, event: str, session_ttl: float
) -> None:
    await configure(http, event, session_ttl=300)
    reservation = await reserve(http, event)
    first = claims((await redeem_with_key(http, reservation))["pass_jwt"])
    await configure(http, event, session_ttl=session_ttl)
    again = claims((await redeem_with_key(http, reservation))["pass_jwt"])
    assert (again["exp"], again["jti"]) == (first["exp"], first["jti"])
    assert again["nbf"] <= time.time()


async def test_who_was_released_is_given_none_again(http: httpx.AsyncClient, event: str) -> None:
    reservation = await reserve(http, event)
    first = await redeem_with_key(http, reservation)
    released = await http.post(f"/api/v1/gate/{event}/release", json={"reservation_token": reservation})
    assert released.status_code == 200
    again = await redeem_with_key(http, reservation)
    assert first.pop("pass_jwt")
    assert again == first


async def test_without_keys_the_answer_is_what_it_was_and_none_are_published(shared_api: Api, event: str) -> None:
    async with client(shared_api.url) as http:
        answer = await redeem(http, await reserve(http, event))
        published = await http.get("/.well-known/jwks.json")
    assert answer.keys() == {"event_id", "user_id", "joined_at", "granted_at"}
    assert (published.status_code, published.json()) == (200, {"keys": []})


async def test_a_site_takes_it(http: httpx.AsyncClient, site_api: SignedApi, event: str) -> None:
    token = (await redeem(http, await reserve(http, event)))["pass_jwt"]
    for verify in (in_python(site_api.url, event), in_node(site_api.url, event)):
        told = await verify(token)
        assert told
        assert told["aud"] == event
