"""The gate's answers in each dialect, and what they cost."""

import asyncio
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.tokens.signer import Signer
from tests.gate.conftest import Declare, NewVisitor
from tests.support.processes import Api
from tests.support.redis_monitor import Monitor
from tests.support.settings import OPERATOR, SECRET
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room
from tests.support.waiting import eventually

DIALECTS = ("nginx", "forwarded", "envoy")
SCRIPT = {"Sec-Fetch-Mode": "cors", "Accept": "application/json"}
FORM = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}


@pytest.fixture
async def inside(declare: Declare, new_visitor: NewVisitor, event: str) -> httpx.AsyncClient:
    """A visitor who walked in."""
    await declare(rate=100, burst=100)
    visitor = new_visitor()
    assert (await visit_room(visitor, event)).headers["location"] == "/checkout"
    return visitor


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "BREW"])
async def test_a_good_pass_is_let_through_with_its_name(
    inside: httpx.AsyncClient, event: str, dialect: str, method: str
) -> None:
    answer = await ask_gate(inside, event, dialect=dialect, method=method)
    assert answer.status_code == 200
    mine = pass_of(inside)
    assert answer.headers["x-daegi-ticket"] == str(mine.ticket)
    assert answer.headers["x-daegi-event"] == event
    assert answer.headers["x-daegi-entered"] == str(mine.entered)
    assert answer.headers["cache-control"] == "no-store"


async def test_who_has_none_is_sent_to_the_room_with_what_they_asked_for(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(home="/welcome")
    url = "/checkout?step=2&x=%2F%2Fa"
    nobody = new_visitor()
    for dialect, status, header in (
        ("nginx", 401, "x-daegi-location"),
        ("forwarded", 302, "location"),
        ("envoy", 302, "location"),
    ):
        answer = await ask_gate(nobody, event, url, dialect=dialect)
        assert answer.status_code == status
        room = urlsplit(answer.headers[header])
        assert room.path == f"/waiting-room/{event}"
        assert not room.netloc
        assert parse_qs(room.query) == {"next": [url]}
        answer = await ask_gate(nobody, event, "//evil.example/x", dialect=dialect)
        assert parse_qs(urlsplit(answer.headers[header]).query) == {"next": ["/welcome"]}


async def test_what_is_no_navigation_is_refused_in_words_of_its_own(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare()
    visitor = new_visitor()
    visitor.headers.update(SCRIPT)
    for dialect in ("forwarded", "envoy"):
        answer = await ask_gate(visitor, event, dialect=dialect)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "WAITING_ROOM"
        assert answer.json()["error"]["room"].startswith(f"/waiting-room/{event}?next=")
        assert int(answer.headers["retry-after"]) >= 1
    answer = await ask_gate(visitor, event, dialect="nginx")
    assert (answer.status_code, answer.content) == (403, b"")
    assert answer.headers["x-daegi-location"].startswith(f"/waiting-room/{event}?next=")


async def test_a_form_that_was_sent_gets_a_page_that_says_so(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare()
    visitor = new_visitor()
    visitor.headers.update(FORM)
    answer = await ask_gate(visitor, event, method="POST")
    assert answer.status_code == 429
    assert answer.headers["content-type"].startswith("text/html")
    assert f'href="/waiting-room/{event}?next=/checkout"' in answer.text
    assert (await ask_gate(visitor, event, dialect="nginx", method="POST")).status_code == 403


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_preflight_goes_through_for_it_carries_no_cookies(
    declare: Declare, new_visitor: NewVisitor, event: str, dialect: str
) -> None:
    await declare()
    visitor = new_visitor()
    visitor.headers.update({"Access-Control-Request-Method": "PUT", "Origin": "https://shop.example"})
    assert (await ask_gate(visitor, event, dialect=dialect, method="OPTIONS")).status_code == 200
    del visitor.headers["Access-Control-Request-Method"]
    assert (await ask_gate(visitor, event, dialect=dialect, method="OPTIONS")).status_code != 200


async def test_an_event_that_nobody_declared_has_no_gate(new_visitor: NewVisitor, event: str) -> None:
    answer = await ask_gate(new_visitor(), f"{event}-unknown")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "EVENT_NOT_FOUND"


async def test_what_cannot_be_an_event_is_none_and_costs_redis_nothing(
    new_visitor: NewVisitor, redis_server: RedisServer
) -> None:
    visitor = new_visitor()
    async with Monitor(redis_server.url) as monitor:
        for odd in ("%00", "%FF", "a%7Db%7Bc", "~", "%22%3E", "x" * 65, "%ED%95%9C"):
            assert (await visitor.get(f"/api/v1/gate/{odd}/forwarded/authorize")).status_code == 404
            assert (await visitor.get(f"/waiting-room/{odd}")).status_code == 404
        assert [it for it in await monitor.commands() if "config:event" in it] == []


async def test_a_good_pass_costs_redis_nothing_once_it_was_renewed_and_a_bad_one_never(
    inside: httpx.AsyncClient, new_visitor: NewVisitor, redis_server: RedisServer, event: str
) -> None:
    await ask_gate(inside, event)
    name = next(name for name in inside.cookies if name.startswith("daegi_p_"))
    mine, good = pass_of(inside), inside.cookies[name]
    async with Monitor(redis_server.url) as monitor:
        for _ in range(20):
            assert (await ask_gate(inside, event)).status_code == 200
        for bad in (
            "", "x", good[:-1], good + "x", good.replace("p~", "w~", 1), good.replace(event, "another", 1),
            Signer(["a secret that was retired"]).pass_token(event, mine.ticket, mine.entered, mine.until),
            SIGNER.pass_token("another", mine.ticket, mine.entered, mine.until),
            SIGNER.waiting(event, mine.ticket), SIGNER.reservation(event, mine.ticket, mine.entered),
        ):  # fmt: skip
            stranger = new_visitor()
            stranger.headers["Cookie"] = f"{name}={bad}"
            assert (await ask_gate(stranger, event)).status_code == 302
        seen = [command for command in await monitor.commands() if f"{{{event}}}" in command]
    # The site's settings are read once a second, and releases are asked for.
    assert [command for command in seen if "EVALSHA" in command] == []


async def test_of_many_cookies_of_one_name_the_good_one_counts(
    inside: httpx.AsyncClient, new_visitor: NewVisitor, event: str
) -> None:
    await ask_gate(inside, event)
    name = next(name for name in inside.cookies if name.startswith("daegi_p_"))
    good = f"{name}={inside.cookies[name]}"
    for cookies, status in (
        ([*[f"{name}=stale-{i}" for i in range(15)], good], 200),
        ([*[f"{name}=stale-{i}" for i in range(16)], good], 302),
        ([f"other-{i}={'x' * 50}" for i in range(100)] + [good], 200),
        ([good.replace("=", '="', 1) + '"'], 200),
    ):
        visitor = new_visitor()
        visitor.headers["Cookie"] = "; ".join(cookies)
        assert (await ask_gate(visitor, event)).status_code == status


async def test_a_pass_found_gone_is_asked_for_once(
    declare: Declare, new_visitor: NewVisitor, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    await declare(rate=100, burst=100)
    seconds, _ = await redis.time()
    visitor = new_visitor()
    await visit_room(visitor, event)
    # Redis may have to be given the script first.
    await ask_gate(visitor, event)
    mine = pass_of(visitor)
    name = next(name for name in visitor.cookies if name.startswith("daegi_p_"))
    replay = SIGNER.pass_token(event, mine.ticket + 1, mine.entered, (int(seconds) - 60) * 1000)
    stranger = new_visitor()
    stranger.headers["Cookie"] = f"{name}={replay}"
    async with Monitor(redis_server.url) as monitor:
        for _ in range(40):
            assert (await ask_gate(stranger, event)).status_code == 302
        scripts = [it for it in await monitor.commands() if "EVALSHA" in it and f"{{{event}}}" in it]
    assert len(scripts) == 1


async def test_a_released_pass_is_good_no_more_and_its_cookie_goes(inside: httpx.AsyncClient, event: str) -> None:
    await ask_gate(inside, event)
    name = next(name for name in inside.cookies if name.startswith("daegi_p_"))
    kept = inside.cookies[name]
    answer = await inside.post(f"/api/v1/gate/{event}/release")
    assert answer.json() == {"status": "released"}
    assert not any(name.startswith("daegi_p_") for name in inside.cookies)
    inside.headers["Cookie"] = f"{name}={kept}"
    assert (await ask_gate(inside, event)).status_code == 302
    # Again it changes nothing.
    assert (await inside.post(f"/api/v1/gate/{event}/release")).json() == {"status": "released"}


@pytest.fixture
def other_api(redis_server: RedisServer) -> Iterator[Api]:
    """A second process, which was shown nothing yet."""
    with Api(redis_server.url) as api:
        yield api


async def test_what_was_released_is_good_no_more_in_a_process_that_sees_it_for_the_first_time(
    inside: httpx.AsyncClient, other_api: Api, event: str
) -> None:
    assert (await ask_gate(inside, event)).status_code == 200
    kept = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
    await inside.post(f"/api/v1/gate/{event}/release")
    async with httpx.AsyncClient(base_url=other_api.url, headers={**FORM, "Cookie": kept}) as elsewhere:
        assert (await ask_gate(elsewhere, event)).status_code == 302


async def test_a_release_is_known_everywhere_within_seconds(
    inside: httpx.AsyncClient, new_visitor: NewVisitor, other_api: Api, event: str
) -> None:
    other = new_visitor()
    await visit_room(other, event)
    for visitor in (inside, other):
        assert (await ask_gate(visitor, event)).status_code == 200
    kept, others = (
        "; ".join(f"{name}={value}" for name, value in visitor.cookies.items()) for visitor in (inside, other)
    )
    async with httpx.AsyncClient(base_url=other_api.url, headers=FORM) as elsewhere:

        async def status(cookies: str) -> int:
            elsewhere.headers["Cookie"] = cookies
            return (await ask_gate(elsewhere, event)).status_code

        async def is_out(cookies: str) -> bool:
            return await status(cookies) == 302

        assert (await status(kept), await status(others)) == (200, 200)
        await inside.post(f"/api/v1/gate/{event}/release")
        await eventually(lambda: is_out(kept))
        assert await status(others) == 200
        await other.post(f"/api/v1/gate/{event}/release")
        await eventually(lambda: is_out(others))


async def test_without_redis_a_person_sees_a_page_and_a_script_a_code(own_server: RedisServer, event: str) -> None:
    with Api(own_server.url) as api:
        async with httpx.AsyncClient(base_url=api.url, headers={**FORM, "Accept-Language": "ko"}) as visitor:
            await visitor.put(f"/api/v1/admin/events/{event}", json={}, headers=OPERATOR)
            assert (await ask_gate(visitor, event)).status_code == 302
            own_server.kill()

            async def is_away() -> bool:
                return (await ask_gate(visitor, event)).status_code == 503

            await eventually(is_away)
            for asked in (event, f"{event}-never-read"):
                for dialect in ("forwarded", "envoy"):
                    page = await ask_gate(visitor, asked, dialect=dialect)
                    assert page.status_code == 503
                    assert 'lang="ko"' in page.text
                    assert f'href="/waiting-room/{asked}?next=/checkout"' in page.text
                    assert int(page.headers["retry-after"]) >= 1
                    assert page.headers["cache-control"] == "no-store"
            # It has a page of its own.
            assert (await ask_gate(visitor, event, dialect="nginx")).json()["error"]["code"] == "UNAVAILABLE"
            visitor.headers.update(SCRIPT)
            told = await ask_gate(visitor, event)
            assert (told.status_code, told.json()["error"]["code"]) == (503, "UNAVAILABLE")


async def test_a_backend_releases_with_the_reservation_token(
    declare: Declare, new_visitor: NewVisitor, event: str, http: httpx.AsyncClient
) -> None:
    await declare(rate=100, burst=100)
    joined = (await http.post("/api/v1/queue/join", json={"event_id": event})).json()["waiting_token"]
    reservation = (await http.post("/api/v1/queue/enter", json={"waiting_token": joined})).json()["reservation_token"]
    described = await declare()
    assert described["active"] == 1
    path = f"/api/v1/gate/{event}/release"
    assert (await http.post(path, json={"reservation_token": reservation})).status_code == 200
    refused = await http.post(f"/api/v1/gate/{event}-other/release", json={"reservation_token": reservation})
    assert refused.status_code == 400
    for nothing in ({}, {"reservation_token": "r~forged"}, {"reservation_token": joined}):
        assert (await http.post(path, json=nothing)).status_code == 400


async def test_several_ask_at_once_and_are_renewed_once(
    declare: Declare, new_visitor: NewVisitor, redis_server: RedisServer, event: str
) -> None:
    await declare(rate=100, burst=100)
    visitor = new_visitor()
    another = new_visitor()
    await visit_room(another, event)
    await ask_gate(another, event)
    await visit_room(visitor, event)
    async with Monitor(redis_server.url) as monitor:
        answers = await asyncio.gather(*(ask_gate(visitor, event) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200}
        scripts = [it for it in await monitor.commands() if "EVALSHA" in it and f"{{{event}}}" in it]
    assert len(scripts) == 1
    assert SECRET not in "".join(scripts)
