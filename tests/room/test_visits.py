"""The way of a visitor over HTTP: probe, walk-in, place in line, pass, and all that may come between."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from api.room.assets import load_assets
from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from tests.gate.conftest import NAVIGATION, Declare, NewVisitor, declare, new_visitor, site_api
from tests.support.processes import Api
from tests.support.settings import ADMIN_KEY
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room

__all__ = ["declare", "new_visitor", "site_api"]

JSON = {"Accept": "application/json", "Sec-Fetch-Mode": "cors"}
CLOSED = {"rate": 0, "burst": 0}


def state_of(page: httpx.Response) -> str:
    """The state that a page shows."""
    found = re.search(r'data-state="([a-z_]+)"', page.text)
    assert found, page.text
    return found[1]


async def act(visitor: httpx.AsyncClient, event: str, what: str, next_url: str = "/checkout") -> httpx.Response:
    """What the page's script sends."""
    how = "GET" if what == "place" else "POST"
    return await visitor.request(how, f"/waiting-room/{event}/{what}?next={next_url}", headers=JSON)


async def test_when_nobody_waits_a_visitor_walks_in_and_sees_no_page(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    assert (await ask_gate(visitor, event, "/checkout?step=2")).status_code == 302
    answer = await visit_room(visitor, event, "%2Fcheckout%3Fstep%3D2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/checkout?step=2")
    assert (await ask_gate(visitor, event)).status_code == 200
    totals = (await declare())["totals"]
    assert (totals["joined"], totals["admitted"]) == (1, 1)
    # With a pass the room leads on: room and gate must not send each other their visitor for ever.
    assert (await visit_room(visitor, event)).headers["location"] == "/checkout"


async def test_the_room_sends_nobody_back_to_a_gate_that_knows_of_their_release_already(
    declare: Declare, new_visitor: NewVisitor, redis_server: RedisServer, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    await visit_room(visitor, event)
    await ask_gate(visitor, event)
    kept = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    with Api(redis_server.url) as other_api:
        async with httpx.AsyncClient(base_url=other_api.url, headers={**NAVIGATION, "Cookie": kept}) as elsewhere:
            assert (await ask_gate(elsewhere, event)).status_code == 200
            await declare(**CLOSED)
            await visitor.post(f"/api/v1/gate/{event}/release")
            # For up to a second this process does not know of it.
            assert (await elsewhere.get(f"/waiting-room/{event}?next=/checkout")).status_code == 200


async def test_a_get_joins_nobody(declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str) -> None:
    await declare(**CLOSED)
    for _ in range(3):
        visitor = new_visitor()
        assert state_of(await visit_room(visitor, event)) == "join"
        assert state_of(await visit_room(visitor, event)) == "join"
    assert not await redis.exists(Keys().event(event).stream)


async def test_while_somebody_waits_who_looks_at_the_page_costs_redis_nothing(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(rate=0, burst=1)
    first, second = new_visitor(), new_visitor()
    assert (await visit_room(new_visitor(), event)).status_code == 303
    for visitor in (first, second):
        assert state_of(await visit_room(visitor, event)) == "join"

    async def scripts() -> int:
        return int((await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])

    async def looks() -> int:
        await act(first, event, "place")
        before = await scripts()
        assert state_of(await visit_room(second, event)) == "join"
        return await scripts() - before

    # Each time it is asked whether they may walk in.
    assert await looks() > 0
    await act(first, event, "join")
    # Unless the process knows that they may not; beside it the pulse goes on.
    assert 0 in [await looks() for _ in range(5)]


@pytest.mark.parametrize(
    "header", [{"Sec-Purpose": "prefetch"}, {"Sec-Fetch-Mode": "no-cors"}, {"Purpose": "prefetch"}]
)
async def test_nor_does_what_is_no_navigation_walk_in(
    declare: Declare, new_visitor: NewVisitor, event: str, header: dict[str, str]
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    visitor.headers.update(header)
    assert state_of(await visit_room(visitor, event)) == "join"
    assert (await declare())["totals"]["admitted"] == 0


async def test_who_keeps_no_cookies_is_told_so(declare: Declare, site_api: Api, event: str) -> None:
    await declare(rate=10, burst=10)
    async with httpx.AsyncClient(base_url=site_api.url, headers=NAVIGATION) as http:
        answer = await http.get(f"/waiting-room/{event}")
        http.cookies.clear()
        page = await http.get(answer.headers["location"])
    assert (page.status_code, state_of(page)) == (200, "cookies_off")


async def test_the_address_of_the_page_can_be_sent_to_a_friend(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    address = (await new_visitor().get(f"/waiting-room/{event}")).headers["location"]
    before, separator, sent = address.rpartition("probe=")
    assert separator
    for old in (int(sent) - 3600, int(sent) + 3600, 1, "1" * 5000, "-1", "²", "x", ""):
        friend = new_visitor()
        answer = await friend.get(f"{before}{separator}{old}")
        assert answer.status_code == 303, old
        assert state_of(await friend.get(answer.headers["location"])) == "join"


async def test_a_place_is_kept_by_the_cookie_whatever_is_clicked(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    answers = await asyncio.gather(*(act(visitor, event, "join") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["waiting_token"] for answer in answers}) == 1
    assert await redis.xlen(Keys().event(event).stream) == 1
    assert (await act(visitor, event, "join")).json()["waiting_token"] == answers[0].json()["waiting_token"]
    for _ in range(2):
        page = await visit_room(visitor, event)
        assert state_of(page) in {"waiting", "paused", "full"}
        assert answers[0].json()["waiting_token"] not in page.text
        assert "w~" not in page.text
    place = await act(visitor, event, "place")
    assert place.status_code == 200
    assert (place.json()["status"], place.json()["position"], place.json()["people"]) == ("waiting", 1, 0)
    assert await redis.xlen(Keys().event(event).stream) == 1


async def test_when_it_is_their_turn_they_go_in_by_script_or_by_reload(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    by_script, by_reload = new_visitor(), new_visitor()
    for visitor in (by_script, by_reload):
        await visit_room(visitor, event)
        await act(visitor, event, "join")
    refused = await act(by_script, event, "enter")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "NOT_READY")
    await declare(rate=100, burst=100)
    await asyncio.sleep(0.1)
    assert (await act(by_script, event, "place")).json()["state"] == "ready"
    entered = await act(by_script, event, "enter", "/checkout%3Fx")
    assert entered.json() == {"location": "/checkout?x"}
    answer = await visit_room(by_reload, event)
    assert (answer.status_code, answer.headers["location"]) == (303, "/checkout")
    for visitor in (by_script, by_reload):
        assert (await ask_gate(visitor, event)).status_code == 200
        assert not any(name.startswith("daegi_w_") for name in visitor.cookies)
    assert pass_of(by_script).ticket < pass_of(by_reload).ticket


async def test_place_and_page_have_the_range_of_the_wait_and_place_says_why_it_slipped(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=1, burst=1)
    line = [new_visitor() for _ in range(40)]
    for visitor in line:
        visitor.headers["Sec-Fetch-Mode"] = "cors"
        await visit_room(visitor, event)
        await act(visitor, event, "join")
    place = (await act(line[-1], event, "place")).json()
    low, high = place["eta_range_sec"]
    assert 0 <= low < place["eta_sec"] < high < 120
    assert place["reason"] == ""
    shown = re.search(r'data-low="(\d+)" data-high="(\d+)"', (await visit_room(line[-1], event)).text)
    assert shown
    assert [int(shown[1]), int(shown[2])] == pytest.approx([low, high], abs=5)
    await declare(rate=0.5, burst=1)
    slower = (await act(line[-1], event, "place")).json()
    assert (slower["reason"], slower["eta_sec"] > place["eta_sec"]) == ("rate_changed", True)
    await declare(rate=0.5, burst=1, paused=True)
    paused = (await act(line[-1], event, "place")).json()
    assert (paused["reason"], paused["eta_range_sec"]) == ("paused", None)


async def test_full_is_told_when_the_cap_leaves_no_opening_and_to_everybody(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=0.001, burst=3, max_active=3)
    inside, *line = [new_visitor() for _ in range(10)]
    assert (await visit_room(inside, event)).status_code == 303
    for visitor in line:
        # Somebody who walks in joins no line.
        visitor.headers["Sec-Fetch-Mode"] = "cors"
        await visit_room(visitor, event)
        await act(visitor, event, "join")
    last = line[-1]
    assert (await act(last, event, "place")).json()["state"] == "waiting"
    # An empty bucket is no cap: the first of those in line waits for the rate.
    for visitor in line[:2]:
        assert (await act(visitor, event, "place")).json()["state"] == "ready"
        assert (await act(visitor, event, "enter")).status_code == 200
    await declare(max_active=4)
    place = (await act(line[2], event, "place")).json()
    assert (place["position"], place["state"]) == (1, "waiting")
    for cap in (3, 2):
        await declare(max_active=cap)
        assert {(await act(visitor, event, "place")).json()["state"] for visitor in (line[2], last)} == {"full"}
        page = await visit_room(last, event)
        assert state_of(page) == "full"
    await declare(max_active=None)
    assert (await act(last, event, "place")).json()["state"] == "waiting"


async def test_without_a_script_forms_do_the_same(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    joined = await visitor.post(f"/waiting-room/{event}/join?next=/checkout")
    assert joined.status_code == 303
    page = await visitor.get(joined.headers["location"])
    assert state_of(page) in {"waiting", "full"}
    assert "http-equiv" in page.text
    left = await visitor.post(f"/waiting-room/{event}/leave?next=/checkout")
    assert (left.status_code, state_of(left)) == (200, "left")
    assert not any(name.startswith("daegi_w_") for name in visitor.cookies)
    assert (await declare())["totals"]["left"] == 1


async def test_two_tabs_that_join_at_once_are_one_person(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    sent = [{**JSON, "Idempotency-Key": key * 32} for key in "ab"]
    url = f"/waiting-room/{event}/join?next=/checkout"
    first, second = await asyncio.gather(*(visitor.post(url, headers=headers) for headers in sent))
    assert first.json()["waiting_token"] == second.json()["waiting_token"]
    assert (await declare())["totals"]["joined"] == 1


async def test_the_other_tab_of_somebody_inside_is_sent_on(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    await act(visitor, event, "join")
    await declare(rate=100, burst=100)
    await asyncio.sleep(0.1)
    assert (await act(visitor, event, "enter")).status_code == 200
    await declare(**CLOSED)
    for what in ("place", "enter", "join"):
        answer = await act(visitor, event, what, "/other")
        assert (answer.status_code, answer.json()) == (200, {"location": "/other"}), what
    sent = await visitor.post(f"/waiting-room/{event}/join?next=/other")
    assert (sent.status_code, sent.headers["location"]) == (303, "/other")
    assert (await declare())["totals"]["joined"] == 1


async def test_who_was_inside_and_comes_again_gets_a_new_place(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    await act(visitor, event, "join")
    await declare(rate=100, burst=100)
    await asyncio.sleep(0.1)
    assert (await visit_room(visitor, event)).headers["location"] == "/checkout"
    assert (await ask_gate(visitor, event)).status_code == 200
    await declare(**CLOSED)
    # Their session has run out; that they were let in is remembered for some minutes.
    keys = Keys().event(event)
    await redis.zrem(keys.sessions, pass_of(visitor).ticket)
    await redis.execute_command("HINCRBY", keys.state, "active", -1)
    visitor.cookies.delete(next(name for name in visitor.cookies if name.startswith("daegi_p_")))
    assert state_of(await visit_room(visitor, event)) == "join"
    joined = await visitor.post(f"/waiting-room/{event}/join?next=/checkout")
    assert state_of(await visitor.get(joined.headers["location"])) in {"waiting", "full"}


@pytest.mark.parametrize(
    "header", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
async def test_another_site_can_do_nothing_for_a_visitor(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str, header: dict[str, str]
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    visitor.headers.update(header)
    for what in ("join", "enter", "leave"):
        assert (await visitor.post(f"/waiting-room/{event}/{what}")).status_code == 403
    assert not await redis.exists(Keys().event(event).stream)


async def test_the_own_origin_may(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    visitor.headers["Origin"] = f"http://{visitor.base_url.netloc.decode()}"
    assert (await act(visitor, event, "join")).status_code == 202


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example/", "/%5Cevil", "/waiting-room/x", "%00"])
async def test_a_next_elsewhere_is_refused_in_words_and_the_room_itself_leads_home(
    declare: Declare, new_visitor: NewVisitor, event: str, elsewhere: str
) -> None:
    await declare(rate=10, burst=10, home="/start", title="Autumn concert")
    visitor = new_visitor()
    visitor.headers["Accept-Language"] = "de"
    page = await visitor.get(f"/waiting-room/{event}?next={elsewhere}")
    assert (page.status_code, state_of(page)) == (400, "bad_link")
    assert "Dieser Link ist nicht gültig" in page.text
    assert "Autumn concert" in page.text
    assert "evil" not in page.text
    assert f'href="/waiting-room/{event}"' in page.text
    answer = await visit_room(visitor, event, "")
    assert (answer.status_code, answer.headers["location"]) == (303, "/start")


async def test_a_target_that_was_named_may_be_next(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(rate=10, burst=10, targets=["https://pay.example"])
    answer = await visit_room(new_visitor(), event, "https%3A%2F%2Fpay.example%2Fx")
    assert answer.headers["location"] == "https://pay.example/x"


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("%2F%ED%95%9C", "/%ED%95%9C"),
        ("/%25ED%2595%259C%2Ba%3Fq%3D%2B%2526", "/%ED%95%9C+a?q=+%26"),
        ("/%22%3E%3Cb", "/%22%3E%3Cb"),
        ("", "/%ED%99%98%EC%98%81"),
    ],
)
async def test_next_is_a_url_that_every_header_can_carry(
    declare: Declare, new_visitor: NewVisitor, event: str, asked: str, location: str
) -> None:
    await declare(rate=10, burst=10, home="/환영")
    answer = await visit_room(new_visitor(), event, asked)
    assert {value for name, value in answer.headers.raw if name.lower() == b"location"} == {location.encode()}


async def test_an_unknown_event_says_so_in_their_language(new_visitor: NewVisitor, event: str) -> None:
    visitor = new_visitor()
    visitor.headers["Accept-Language"] = "ko-KR,ko;q=0.9"
    page = await visitor.get(f"/waiting-room/{event}-unknown")
    assert (page.status_code, state_of(page)) == (404, "not_found")
    assert '<html lang="ko"' in page.text


async def test_an_event_whose_address_is_that_of_the_assets_has_no_room(
    site_api: Api, new_visitor: NewVisitor, redis: Redis
) -> None:
    # As an older version let it be declared.
    await redis.execute_command("HSET", Keys().event("-").config, "declared", "1")
    visitor = new_visitor()
    page = await visitor.get("/waiting-room/-")
    assert (page.status_code, state_of(page)) == (404, "not_found")
    for what in ("join", "enter", "leave", "place"):
        assert (await act(visitor, "-", what)).status_code in {404, 405}
    assert (await ask_gate(visitor, "-")).status_code == 404
    assert (await visitor.get(load_assets().url("style.css"))).status_code == 200


async def test_a_place_that_is_gone_is_told_and_they_can_join_again(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    token = (await act(visitor, event, "join")).json()["waiting_token"]
    await visitor.delete("/api/v1/queue/leave", params={"token": token})
    name = next(name for name in visitor.cookies if name.startswith("daegi_w_"))
    ticket = SIGNER.verify_waiting(token).ticket
    # Its lease is over: an exact poll finds that the place is gone.
    visitor.cookies.set(name, SIGNER.waiting(event, ticket, 1), domain="127.0.0.1", path="/")
    page = await visit_room(visitor, event)
    assert state_of(page) == "expired"
    again = await act(visitor, event, "join")
    assert again.status_code == 202
    assert SIGNER.verify_waiting(again.json()["waiting_token"]).ticket > ticket


async def test_the_place_of_another_event_is_nobodys_place_here(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    visitor, stranger = new_visitor(), new_visitor()
    await visit_room(visitor, event)
    token = (await act(visitor, event, "join")).json()["waiting_token"]
    name = next(name for name in visitor.cookies if name.startswith("daegi_w_"))
    # In their own event anybody can get any ticket, by joining at that microsecond.
    same_ticket = SIGNER.waiting(f"{event}-other", SIGNER.verify_waiting(token).ticket)
    stranger.headers["Cookie"] = f"{name}={same_ticket}"
    assert (await act(stranger, event, "leave")).status_code == 200
    for what in ("place", "enter"):
        assert (await act(stranger, event, what)).json()["error"]["code"] == "INVALID_TOKEN"
    assert state_of(await visit_room(stranger, event)) == "expired"
    assert (await declare())["totals"]["left"] == 0
    assert (await act(visitor, event, "place")).json()["position"] == 1


@pytest.fixture
async def in_line(declare: Declare, new_visitor: NewVisitor, event: str) -> httpx.AsyncClient:
    """Somebody in line whose browser runs no script."""
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    await visitor.post(f"/waiting-room/{event}/join?next=/checkout")
    return visitor


async def test_a_form_that_is_refused_leads_to_the_page_that_says_why(
    in_line: httpx.AsyncClient, declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    room = f"/waiting-room/{event}?next=%2Fcheckout"
    without = new_visitor()
    for visitor, state in ((in_line, {"waiting", "full"}), (without, {"join"})):
        sent = await visitor.post(f"/waiting-room/{event}/enter?next=/checkout")
        assert (sent.status_code, sent.headers["location"]) == (303, room)
        assert state_of(await visit_room(visitor, event)) in state
    await declare(paused=True)
    assert (await in_line.post(f"/waiting-room/{event}/enter?next=/checkout")).headers["location"] == room
    for address, status, shown in (
        (f"{event}-unknown/join?next=/", 404, "not_found"),
        (f"{event}/join?next=//evil.example", 400, "bad_link"),
    ):
        page = await in_line.post(f"/waiting-room/{address}")
        assert (page.status_code, state_of(page)) == (status, shown)


async def test_who_may_not_join_so_often_is_told_so_on_a_page(redis_server: RedisServer, event: str) -> None:
    with Api(redis_server.url, joins_per_minute=1) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
            admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
            await visitor.put(f"/api/v1/admin/events/{event}", json=CLOSED, headers=admin)
            await visitor.post(f"/waiting-room/{event}/join")
            page = await visitor.post(f"/waiting-room/{event}/join")
            assert (page.status_code, state_of(page)) == (429, "busy")
            assert int(page.headers["retry-after"]) >= 1
            assert (await act(visitor, event, "join")).json()["error"]["code"] == "RATE_LIMITED"


async def test_nobody_is_told_that_it_is_their_turn_after_it_was(
    in_line: httpx.AsyncClient, declare: Declare, event: str
) -> None:
    token = next(value for name, value in in_line.cookies.items() if name.startswith("daegi_w_"))
    await declare(rate=100, burst=100)
    await asyncio.sleep(0.1)
    entered = (await in_line.post("/api/v1/queue/enter", json={"waiting_token": token})).json()
    await in_line.post("/api/v1/queue/redeem", json={"reservation_token": entered["reservation_token"]})
    assert state_of(await visit_room(in_line, event)) == "expired"
    assert not any(name.startswith("daegi_w_") for name in in_line.cookies)


async def test_over_https_cookies_are_secure_and_of_this_host_alone(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    visitor.headers["X-Forwarded-Proto"] = "https"
    cookie = (await visitor.get(f"/waiting-room/{event}")).headers["set-cookie"]
    assert cookie.startswith("__Host-daegi_v_")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie.split("; ")
    assert "Domain" not in cookie


async def test_the_page_of_a_crowd_is_compressed_for_whoever_can_read_it(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await visit_room(visitor, event)
    pages = []
    for accepted, encoding in (("gzip, br", "gzip"), ("gzip;q=0", None), ("br", None)):
        visitor.headers["Accept-Encoding"] = accepted
        page = await visit_room(visitor, event)
        assert page.headers.get("content-encoding") == encoding
        assert "accept-encoding" in page.headers["vary"]
        assert state_of(page) == "join"
        pages.append(page.text)
    assert len(set(pages)) == 1


async def test_over_https_no_other_host_can_give_a_visitor_a_place_or_a_pass(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=10, burst=10)
    visitor = new_visitor()
    await visit_room(visitor, event)
    planted = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    assert "daegi_p_" in planted
    assert "daegi_v_" in planted
    victim = new_visitor()
    victim.headers["Cookie"] = planted
    assert (await ask_gate(victim, event)).status_code == 200
    victim.headers["X-Forwarded-Proto"] = "https"
    assert (await ask_gate(victim, event)).status_code == 302
    probed = await victim.get(f"/waiting-room/{event}")
    assert probed.headers["set-cookie"].startswith("__Host-daegi_v_")
    victim.headers["Cookie"] = planted.replace("daegi_", "__Host-daegi_")
    assert (await ask_gate(victim, event)).status_code == 200


async def test_assets_are_compressed_and_kept_for_ever(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED, accent="#0a7cff")
    visitor = new_visitor()
    page = await visit_room(visitor, event)
    found = re.findall(r'(?:href|src)="(/waiting-room/-/[^"]+)"', page.text)
    assert len(found) >= 3
    total = len(page.content)
    for url in found:
        answer = await visitor.get(url, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        total += int(answer.headers["content-length"])
        again = await visitor.get(url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert total < 40_000
    assert (await visitor.get("/waiting-room/-/nothing.css")).status_code == 404


@pytest.fixture
async def fragile(own_server: RedisServer, event: str) -> AsyncIterator[httpx.AsyncClient]:
    """A visitor in line at an api whose Redis is about to go."""
    with Api(own_server.url) as api:
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as http:
            await http.put(f"/api/v1/admin/events/{event}", json={**CLOSED, "on_outage": "open"}, headers=admin)
            await visit_room(http, event)
            await act(http, event, "join")
            yield http


async def test_while_redis_is_gone_nobody_sees_a_blank_page_or_loses_their_place(
    fragile: httpx.AsyncClient, own_server: RedisServer, event: str
) -> None:
    token = next(value for name, value in fragile.cookies.items() if name.startswith("daegi_w_"))
    own_server.kill()
    page = await visit_room(fragile, event)
    assert state_of(page) in {"unavailable", "waiting", "full", "paused"}
    assert page.status_code in {200, 503}
    stranger = httpx.AsyncClient(base_url=fragile.base_url, headers=NAVIGATION)
    page = await visit_room(stranger, event)
    assert (page.status_code, state_of(page)) == (503, "unavailable")
    assert int(page.headers["retry-after"]) >= 1
    for what in ("join", "enter", "leave"):
        for visitor in (fragile, stranger):
            told = await visitor.post(f"/waiting-room/{event}/{what}?next=/checkout")
            if visitor is fragile or what == "join":
                assert (told.status_code, state_of(told)) == (503, "unavailable"), what
                assert int(told.headers["retry-after"]) >= 1
                assert "content-security-policy" in told.headers
    # This event lets people through meanwhile, and says so to the proxy.
    answer = await ask_gate(stranger, event)
    assert (answer.status_code, answer.headers["x-daegi-mode"]) == (200, "open")
    await stranger.aclose()
    kept = next(value for name, value in fragile.cookies.items() if name.startswith("daegi_w_"))
    assert SIGNER.verify_waiting(kept).ticket == SIGNER.verify_waiting(token).ticket
