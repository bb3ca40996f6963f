"""Whoever means harm at the room: confused and retired cookies, odd methods; and what every answer carries."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest
from redis.asyncio import Redis

from api.gate.cookies import cookie_name
from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.gate.conftest import NAVIGATION, Declare, NewVisitor, declare, new_visitor, site_api
from tests.room.test_visits import CLOSED, act, state_of
from tests.support.processes import Api
from tests.support.settings import OPERATOR, SECRET
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room

__all__ = ["declare", "new_visitor", "site_api"]


async def test_no_token_passes_for_one_of_another_kind_or_event(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    await visit_room(visitor, event)
    mine = pass_of(visitor)
    await declare(**CLOSED)
    ticket, entered, until = mine.ticket, mine.entered, mine.until
    place, reservation = SIGNER.waiting(event, ticket), SIGNER.reservation(event, ticket, entered)
    good = SIGNER.pass_token(event, ticket, entered, until)
    foreign = SIGNER.pass_token(f"{event}-other", ticket, entered, until)
    for kind, tokens in (("p", (place, reservation, foreign)), ("w", (good, reservation, foreign))):
        for token in tokens:
            stranger = new_visitor()
            stranger.headers["Cookie"] = f"{cookie_name(kind, event)}={token}; {cookie_name('v', event)}=x"
            assert (await ask_gate(stranger, event)).status_code == 302
            page = await visit_room(stranger, event)
            assert (page.status_code, state_of(page)) == (200, {"p": "join", "w": "expired"}[kind])
            assert (await act(stranger, event, "enter")).status_code == 400
    assert (await declare())["active"] == 1


async def test_a_pass_that_was_released_leads_to_the_room_and_to_a_new_place(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    await visit_room(visitor, event)
    name = cookie_name("p", event)
    kept, old = visitor.cookies[name], pass_of(visitor)
    await visitor.post(f"/api/v1/gate/{event}/release")
    await declare(**CLOSED)
    visitor.cookies.set(name, kept, domain="127.0.0.1", path="/")
    assert state_of(await visit_room(visitor, event)) == "join"
    joined = await act(visitor, event, "join")
    assert SIGNER.verify_waiting(joined.json()["waiting_token"]).ticket > old.ticket
    assert not await visitor_is_inside(visitor, event)


async def visitor_is_inside(visitor: httpx.AsyncClient, event: str) -> bool:
    return (await ask_gate(visitor, event)).status_code == 200


async def test_cookies_of_a_secret_that_is_being_retired_are_good_and_those_of_a_retired_one_are_told(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    was, new = SECRET, "the secret that comes after it, long enough"
    with (
        Api(redis_server.url, token_secrets=[new, was]) as rotating,
        Api(redis_server.url, token_secrets=[new]) as rotated,
    ):
        async with httpx.AsyncClient(base_url=rotating.url, headers=NAVIGATION) as visitor:
            await visitor.put(f"/api/v1/admin/events/{event}", json=CLOSED, headers=OPERATOR)
            await visit_room(visitor, event)
            token = (await act(visitor, event, "join")).json()["waiting_token"]
            place = Signer([new]).verify_waiting(token)
            name = cookie_name("w", event)
            visitor.cookies.set(name, SIGNER.waiting(event, place.ticket), domain="127.0.0.1", path="/")
            assert state_of(await visit_room(visitor, event)) in {"waiting", "full"}
            # The page's cookie is of the new one now.
            assert Signer([new]).verify_waiting(visitor.cookies[name]).ticket == place.ticket
        async with httpx.AsyncClient(base_url=rotated.url, headers=NAVIGATION) as visitor:
            seconds, _ = await redis.time()
            now = int(seconds) * 1000
            lost = {
                name: SIGNER.waiting(event, place.ticket),
                cookie_name("p", event): SIGNER.pass_token(event, 1, now, now + 200_000),
            }
            for one, value in lost.items():
                visitor.cookies.set(one, value, domain="127.0.0.1", path="/")
            assert (await ask_gate(visitor, event)).status_code == 302
            assert state_of(await visit_room(visitor, event)) == "expired"
            assert name not in visitor.cookies
            for what in ("join", "place", "enter"):
                assert (await act(visitor, event, what)).status_code in {200, 202, 403}


async def test_head_and_other_methods_take_no_place(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    probe = (await visitor.get(f"/waiting-room/{event}")).headers["location"]
    head = await visitor.head(probe)
    assert (head.status_code, head.content) == (200, b"")
    for path, methods in (
        (f"/waiting-room/{event}", ("POST", "PUT", "DELETE", "OPTIONS", "BREW")),
        (f"/waiting-room/{event}/join", ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")),
        (f"/waiting-room/{event}/enter", ("GET", "HEAD")),
        (f"/waiting-room/{event}/leave", ("GET", "HEAD", "DELETE")),
    ):
        for method in methods:
            assert (await visitor.request(method, path)).status_code == 405, (method, path)
    assert not await redis.exists(Keys().event(event).stream)
    assert (await declare())["totals"]["admitted"] == 0


async def test_walking_in_counts_as_a_join(redis_server: RedisServer, redis: Redis, event: str) -> None:
    with Api(redis_server.url, joins_per_minute=1) as api:
        for shown in (None, "join"):
            async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
                await visitor.put(f"/api/v1/admin/events/{event}", json={"rate": 9, "burst": 9}, headers=OPERATOR)
                answer = await visit_room(visitor, event)
                assert answer.status_code == (200 if shown else 303)
                assert not shown or state_of(answer) == shown


async def test_the_gate_reads_nothing_from_its_query(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(home="/home")
    told = {"X-Forwarded-Uri": "/checkout", "X-Forwarded-Method": "GET"}
    for query in (f"event={event}-other&next=//evil.example", "next=/elsewhere", "dialect=nginx", "token=p~x"):
        answer = await new_visitor().get(f"/api/v1/gate/{event}/forwarded/authorize?{query}", headers=told)
        assert answer.headers["location"] == f"/waiting-room/{event}?next=/checkout"


@pytest.fixture
async def answers(declare: Declare, new_visitor: NewVisitor, event: str) -> list[httpx.Response]:
    """One of everything that room and gate answer."""
    await declare(**CLOSED, title="A sale\r\nX-Injected: 1", message="a\r\n\r\nb", accent="#0a7cff", logo="/a;b'.svg?x")
    new, visitor = new_visitor(), new_visitor()
    found = [await new.get(f"/waiting-room/{event}"), await visit_room(visitor, event)]
    found += [await visitor.post(f"/waiting-room/{event}/join"), await visit_room(visitor, event)]
    found += [await act(visitor, event, what) for what in ("join", "place", "enter", "leave")]
    found += [await new.post(f"/waiting-room/{event}/{what}") for what in ("enter", "leave")]
    found += [
        await new.get(f"/waiting-room/{it}") for it in (f"{event}-unknown", f"{event}?next=//x", "-/x", f"{event}/x")
    ]
    found.append(await new.post(f"/waiting-room/{event}/join", headers={"Origin": "https://evil.example"}))
    for dialect in ("nginx", "forwarded", "envoy"):
        for method in ("GET", "POST", "OPTIONS"):
            found.append(await ask_gate(new, event, dialect=dialect, method=method))
    return found


async def test_no_cache_keeps_an_answer_and_no_setting_of_an_event_becomes_a_header(
    answers: list[httpx.Response],
) -> None:
    usual = {
        "allow", "cache-control", "content-length", "content-security-policy", "content-type", "date", "location",
        "referrer-policy", "retry-after", "server", "set-cookie", "vary", "x-content-type-options", "x-daegi-location",
    }  # fmt: skip
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store", answer.request.url
        assert {name.lower() for name in answer.headers} <= usual
        for cookie in answer.headers.get_list("set-cookie"):
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


async def test_every_page_comes_with_its_policy(answers: list[httpx.Response]) -> None:
    pages = [answer for answer in answers if answer.headers.get("content-type", "").startswith("text/html")]
    assert len(pages) >= 7
    for page in pages:
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'self'", "base-uri 'none'"} <= set(policy)
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert {"accept-language", "cookie"} <= set(page.headers["vary"].split(", "))


async def test_a_full_process_says_so_on_a_page_and_leaves_those_inside_alone(
    own_server: RedisServer, event: str
) -> None:
    with Api(own_server.url, max_pending=1) as api:
        async with AsyncExitStack() as stack:
            inside, *crowd = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=api.url, headers={**NAVIGATION, "Accept-Language": "ko"}, timeout=30)
                )
                for _ in range(7)
            ]
            for settings in ({"rate": 9, "burst": 9}, CLOSED):
                await inside.put(f"/api/v1/admin/events/{event}", json=settings, headers=OPERATOR)
                await visit_room(inside, event)
            assert (await ask_gate(inside, event)).status_code == 200
            for visitor in crowd:
                await visit_room(visitor, event)
            own_server.pause()
            try:
                sent = [visitor.post(f"/waiting-room/{event}/join") for visitor in crowd]
                told, let_in = await asyncio.gather(asyncio.gather(*sent), ask_gate(inside, event))
            finally:
                own_server.resume()
            assert let_in.status_code == 200
            states = {state_of(page) for page in told}
            assert "busy" in states
            assert states <= {"busy", "unavailable"}
            for page in told:
                assert page.status_code == 503
                assert int(page.headers["retry-after"]) >= 1
                assert '<html lang="ko"' in page.text
