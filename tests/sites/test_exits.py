"""People who leave the room for a site without our gate, and come back: what they bring along, and for how long."""

import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import jwt
import pytest
from redis.asyncio import Redis

from api.room.exits import Exits
from api.room.visits import Visit
from api.serving.sites import Room, Site
from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.jwt import JwtSigner
from shared.tokens.signer import PassToken
from tests.gate.conftest import NAVIGATION
from tests.gate.test_asked import asked_by
from tests.sites.conftest import Declare, NewVisitor, SignedApi, in_node, in_python
from tests.support.settings import OPERATOR
from tests.support.visits import ask_gate, pass_of, visit_room
from tests.support.waiting import eventually

SHOP = "https://shop.example"
JSON = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
SLACK_MS = 2000


async def leave_for(visitor: httpx.AsyncClient, event: str, url: str = f"{SHOP}/checkout") -> str:
    """Where the room sends them."""
    answer = await visit_room(visitor, event, quote(url, safe=""))
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def token_in(url: str) -> str:
    (token,) = parse_qs(urlsplit(url).query)["daegi_pass"]
    return token


def claims_in(url: str) -> dict[str, Any]:
    return dict(jwt.decode(token_in(url), options={"verify_signature": False}))


async def ends(redis: Redis, event: str) -> dict[int, int]:
    """Ticket -> when its session ends, in ms."""
    found = await redis.zrange(Keys().event(event).sessions, 0, -1, withscores=True)
    return {int(ticket): int(score) for ticket, score in found}


@pytest.fixture
async def open_event(declare: Declare) -> Declare:
    """One without a line, for a site elsewhere; how to change it."""
    await declare(rate=100, burst=100, targets=[SHOP], session_ttl=120)
    return declare


@pytest.mark.usefixtures("open_event")
async def test_who_walks_in_brings_a_pass_that_the_site_takes(
    site_api: SignedApi, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    visitor = new_visitor()
    url = await leave_for(visitor, event)
    assert url.startswith(f"{SHOP}/checkout?daegi_pass=")
    claims = claims_in(url)
    ticket = pass_of(visitor).ticket
    assert (claims["iss"], claims["aud"], claims["sub"]) == (site_api.url, event, str(ticket))
    assert claims["exp"] - claims["iat"] == 120
    # The slot is theirs until then, and 2 s longer.
    (end,) = (await ends(redis, event)).values()
    assert claims["exp"] == (end - SLACK_MS) // 1000
    for verify in (in_python(site_api.url, event), in_node(site_api.url, event)):
        assert await verify(token_in(url)) == claims


@pytest.mark.parametrize("by_script", [True, False])
async def test_so_does_who_stood_in_line(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str, by_script: bool
) -> None:
    await declare(rate=0, burst=0, targets=[SHOP], session_ttl=120)
    visitor = new_visitor()
    page = f"/waiting-room/{event}"
    query = f"?next={quote(f'{SHOP}/a', safe='')}"
    await visit_room(visitor, event)
    assert (await visitor.post(f"{page}/join{query}", headers=JSON)).status_code == 202
    await declare(rate=100, burst=100)

    async def let_in() -> str | None:
        if by_script:
            answer = await visitor.post(f"{page}/enter{query}", headers=JSON)
            return answer.json().get("location")
        return (await visitor.get(f"{page}{query}")).headers.get("location")

    await eventually(let_in)
    url = await leave_for(visitor, event)
    claims = claims_in(url)
    assert claims["sub"] == str(pass_of(visitor).ticket)
    assert claims["exp"] - claims["iat"] == 120
    (end,) = (await ends(redis, event)).values()
    assert claims["exp"] == (end - SLACK_MS) // 1000


async def test_who_comes_back_has_the_same_end_again(
    open_event: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    visitor = new_visitor()
    first = await leave_for(visitor, event)
    before = await ends(redis, event)
    await open_event(session_ttl=300)
    # The site is read once a second.
    again = [await leave_for(visitor, event, f"{SHOP}/{n}") for n in range(3)]
    assert {(claims_in(url)["exp"], claims_in(url)["jti"]) for url in again} == {
        (claims_in(first)["exp"], claims_in(first)["jti"])
    }
    assert await ends(redis, event) == before


@pytest.mark.usefixtures("open_event")
async def test_two_tabs_are_one_session(new_visitor: NewVisitor, redis: Redis, event: str) -> None:
    visitor = new_visitor()
    urls = [await leave_for(visitor, event, f"{SHOP}/{tab}") for tab in "ab"]
    # The second, which still has the cookies of before.
    assert token_in(urls[0]) == token_in(urls[1])
    assert len(await ends(redis, event)) == 1


async def test_who_was_released_has_none(open_event: Declare, new_visitor: NewVisitor, event: str) -> None:
    visitor = new_visitor()
    await leave_for(visitor, event)
    ((name, value),) = (cookie for cookie in visitor.cookies.items() if cookie[0].startswith("daegi_p_"))
    await open_event(rate=0, burst=0)

    async def room_leads_to() -> str:
        other_tab = new_visitor()
        other_tab.headers["Cookie"] = f"{name}={value}"
        answer = await other_tab.get(f"/waiting-room/{event}", params={"next": f"{SHOP}/checkout"})
        return answer.headers["location"]

    assert token_in(await room_leads_to())
    assert (await visitor.post(f"/api/v1/gate/{event}/release")).status_code == 200
    # As somebody who comes for the first time.
    assert (await room_leads_to()).startswith(f"/waiting-room/{event}?next=")


@pytest.mark.usefixtures("open_event")
async def test_on_the_own_host_everything_is_as_it_was(new_visitor: NewVisitor, redis: Redis, event: str) -> None:
    visitor = new_visitor()
    assert await leave_for(visitor, event, "/checkout?a=1#b") == "/checkout?a=1#b"
    # The time to arrive: the gate lengthens it.
    (arriving,) = (await ends(redis, event)).values()
    assert (await ask_gate(visitor, event)).status_code == 200
    (inside,) = (await ends(redis, event)).values()
    assert inside > arriving
    # Who then goes elsewhere has what is left.
    claims = claims_in(await leave_for(visitor, event))
    assert claims["exp"] == (inside - SLACK_MS) // 1000


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (f"{SHOP}", f"{SHOP}?daegi_pass=JWT"),
        (f"{SHOP}/?", f"{SHOP}/?daegi_pass=JWT"),
        (f"{SHOP}/a?b=%2F&c=+&b=2&&d", f"{SHOP}/a?b=%2F&c=+&b=2&&d&daegi_pass=JWT"),
        (f"{SHOP}/a?b=1#c?d=1", f"{SHOP}/a?b=1&daegi_pass=JWT#c?d=1"),
        (f"{SHOP}/#/a?daegi_pass=2", f"{SHOP}/?daegi_pass=JWT#/a?daegi_pass=2"),
        (f"{SHOP}/?daegi_pass=old&a=1", f"{SHOP}/?a=1&daegi_pass=JWT"),
        (f"{SHOP}/?a=1&daegi_pass=old&daegi%5Fpass=older&b=2", f"{SHOP}/?a=1&b=2&daegi_pass=JWT"),
        (f"{SHOP}/?daegi_pass", f"{SHOP}/?daegi_pass=JWT"),
        (f"{SHOP}/?daegi_passes=1&a=daegi_pass=2", f"{SHOP}/?daegi_passes=1&a=daegi_pass=2&daegi_pass=JWT"),
        (f"{SHOP}/%ED%95%9C?q=%26%23", f"{SHOP}/%ED%95%9C?q=%26%23&daegi_pass=JWT"),
        (f"{SHOP}:443/a", f"{SHOP}:443/a?daegi_pass=JWT"),
    ],
)
@pytest.mark.usefixtures("open_event")
async def test_the_rest_of_the_url_stays_as_it_is(new_visitor: NewVisitor, event: str, url: str, sent: str) -> None:
    left = await leave_for(new_visitor(), event, url)
    assert left.replace(token_in(left), "JWT") == sent


@pytest.mark.usefixtures("open_event")
async def test_a_jwt_is_no_pass_of_ours(new_visitor: NewVisitor, event: str) -> None:
    visitor = new_visitor()
    token = token_in(await leave_for(visitor, event))
    (name,) = (name for name in visitor.cookies if name.startswith("daegi_p_"))
    stranger = new_visitor()
    headers = {"Cookie": f"{name}={token}", "Authorization": f"Bearer {token}"}
    stranger.headers.update(headers)
    for url in ("/checkout", f"/checkout?daegi_pass={token}"):
        assert (await ask_gate(stranger, event, url)).status_code == 302
    asked = await stranger.get(f"/waiting-room/{event}?next=/a&daegi_pass={token}")
    # Sent to the page for the probe, as whoever comes for the first time.
    assert asked.headers["location"].startswith(f"/waiting-room/{event}?next=")
    for path in ("redeem", "enter"):
        body = {"reservation_token": token, "waiting_token": token}
        refused = await stranger.post(f"/api/v1/queue/{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "INVALID_TOKEN")
    released = await stranger.post(f"/api/v1/gate/{event}/release", json={"reservation_token": token})
    assert (released.status_code, released.json()["error"]["code"]) == (400, "INVALID_TOKEN")
    polled = await stranger.get("/api/v1/queue/status", params={"token": token})
    assert (polled.status_code, polled.json()["error"]["code"]) == (400, "INVALID_TOKEN")
    assert (await ask_gate(visitor, event)).status_code == 200


async def test_without_redis_whoever_is_inside_is_sent_on_with_the_same_end(
    own_server: RedisServer, keys: list[str], event: str
) -> None:
    with SignedApi(own_server.url, *keys) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
            body = {"rate": 100, "burst": 100, "targets": [SHOP]}
            await visitor.put(f"/api/v1/admin/events/{event}", json=body, headers=OPERATOR)
            first = token_in(await leave_for(visitor, event))
            own_server.kill()

            async def room_is_cut_off() -> bool:
                other = await visitor.get(f"/waiting-room/{event}-other")
                return other.status_code == 503

            await eventually(room_is_cut_off)
            assert token_in(await leave_for(visitor, event)) == first


@pytest.mark.parametrize("session_ttl", [20, 600])
async def test_it_is_good_at_once_though_the_session_ttl_is_another_by_now(
    keys: list[str], event: str, session_ttl: int
) -> None:
    now = time.time_ns() // 1_000_000
    site = Site(Room(targets=(SHOP,)), session_ttl=session_ttl * 1000, session_limit=None, max_active=None)
    token = PassToken(event, 7, now - 300_000, now + 100_000)
    claims = claims_in(Exits(JwtSigner(keys, SHOP), None).url(asked_by([]), Visit(event, site, SHOP), token))
    assert claims["exp"] == token.until // 1000
    assert claims["nbf"] == claims["iat"] == min(now // 1000, (token.until - session_ttl * 1000) // 1000)
