"""The admin API: operators list, read and change events, and their changes apply at once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.line.line import Line
from tests.support.calls import configure, enter, join, redeem, running, status, try_enter, try_join
from tests.support.line_state import fill
from tests.support.processes import Api
from tests.support.refusals import refused
from tests.support.settings import OPERATOR
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("redis")
EVENTS = "/api/v1/admin/events"


async def read(http: httpx.AsyncClient, event: str) -> Any:
    answer = await http.get(f"{EVENTS}/{event}", headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return answer.json()


def config(**changed: object) -> dict[str, object]:
    """The settings in force of an event that says nothing else."""
    line = {"rate": 50, "burst": 500, "pass_ttl": 30, "paused": False}
    sessions = {"max_active": None, "session_ttl": 300, "session_limit": None}
    room = {"home": "/", "targets": [], "on_outage": "closed", "title": "", "message": "", "logo": "", "accent": ""}
    return {**line, **sessions, **room, **changed}


SESSIONS = {"max_active": 200, "session_ttl": 60, "session_limit": 600}
ROOM = {
    "home": "/tickets", "targets": ["https://pay.example", "http://127.0.0.1:8080"], "on_outage": "open",
    "title": "<b>대기</b>", "message": "Doors open at nine.", "logo": "/logo.svg", "accent": "#0A7cff",
}  # fmt: skip


async def test_what_a_room_says_and_how_many_may_be_inside_is_changed_field_by_field(
    http: httpx.AsyncClient, event: str
) -> None:
    assert (await configure(http, event, **SESSIONS, **ROOM))["config"] == config(**SESSIONS, **ROOM)
    changed = await configure(http, event, title="", max_active=None)
    assert changed["config"] == config(**SESSIONS | {"max_active": None}, **ROOM | {"title": ""})
    assert (await configure(http, event, session_limit=None))["config"]["session_limit"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_active": -1}, {"max_active": 1.5}, {"session_ttl": 0}, {"session_ttl": None}, {"session_limit": 0},
        {"home": "/\r\nSet-Cookie: a=b"}, {"home": "/%0d%0aa"}, {"logo": "/\na"}, {"targets": ["https://a.example\r\n"]},
        {"home": "//evil.example"}, {"home": "/waiting-room/x"}, {"home": "https://evil.example"}, {"home": ""},
        {"targets": ["shop.example"]}, {"targets": ["https://shop.example/path"]}, {"targets": ["https://a@b.example"]},
        {"on_outage": "maybe"}, {"accent": "red"}, {"accent": "#12345"}, {"logo": "https://evil.example/x.svg"},
        {"title": "x" * 201}, {"message": "x" * 2001}, {"titel": "x"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_room_that_would_mislead_people_is_refused(
    http: httpx.AsyncClient, event: str, wrong: dict[str, object]
) -> None:
    await configure(http, event, title="as it was")
    answer = await http.put(f"{EVENTS}/{event}", json=wrong, headers=OPERATOR)
    refused(answer, 422, "INVALID_REQUEST")
    assert (await read(http, event))["config"] == config(title="as it was")


async def test_an_event_is_read_as_it_stands(http: httpx.AsyncClient, live_line: Line, event: str) -> None:
    tokens = [(await join(http, event))["waiting_token"] for _ in range(3)]
    await redeem(http, (await enter(http, tokens[0]))["reservation_token"])
    await live_line.publish_index(event)
    found = await read(http, event)
    computed_at = datetime.fromisoformat(found["index"].pop("computed_at"))
    assert abs(computed_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.pop("tokens") >= 499
    assert found.pop("openings") >= 499
    assert found == {
        "event_id": event,
        "declared": False,
        "config": config(),
        "totals": {"joined": 3, "admitted": 1, "redeemed": 1, "left": 0, "expired": 0, "stepped_aside": 0},
        "waiting": 0,
        "called": 2,
        "absent": 0,
        "damaged": False,
        "index": {"waiting": 0, "rates": [0, 0, 0]},
        "active": 1,
    }


async def test_changing_an_event_declares_it_and_answers_with_what_is_in_force(
    http: httpx.AsyncClient, event: str
) -> None:
    changed = await configure(http, event, rate=12.5, burst=80, pass_ttl=90, paused=True)
    assert changed["declared"] is True
    assert changed["config"] == config(rate=12.5, burst=80, pass_ttl=90, paused=True)
    assert (await read(http, event))["config"] == changed["config"]
    # What is left out stays, and a burst under four seconds of the rate is raised to them.
    changed = await configure(http, event, burst=1)
    assert changed["config"] == config(rate=12.5, burst=50, pass_ttl=90, paused=True)


async def test_an_empty_change_declares_an_event_and_nothing_else(http: httpx.AsyncClient, event: str) -> None:
    changed = await configure(http, event)
    assert changed["declared"] is True
    assert changed["config"] == config()


async def test_a_burst_lets_in_as_many_and_a_raised_rate_more(http: httpx.AsyncClient, event: str) -> None:
    await configure(http, event, rate=0, burst=2)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(6)]
    assert [(await try_enter(http, token)).status_code for token in tokens] == [200, 200, 403, 403, 403, 403]
    await configure(http, event, rate=100)

    async def entered() -> bool:
        return (await try_enter(http, tokens[2])).status_code == 200

    await eventually(entered)
    await configure(http, event, rate=0, burst=0)
    refused(await try_enter(http, tokens[5]), 403, "NOT_READY")


async def test_a_pause_holds_from_the_next_call_on_and_ends_with_the_next(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    await configure(http, event, paused=True)
    refused(await try_enter(http, token), 403, "EVENT_PAUSED")
    assert (await read(http, event))["config"]["paused"] is True
    await configure(http, event, paused=False)
    await enter(http, token)


async def test_the_ttl_of_reservations_is_changed_while_people_wait(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    await configure(http, event, pass_ttl=12)
    assert (await enter(http, token))["ttl_sec"] == 12


async def test_the_list_pages_through_all_events_the_longest_quiet_first(
    http: httpx.AsyncClient, redis: Redis, event: str
) -> None:
    names = [f"{event}-{i}" for i in range(5)]
    await redis.zadd(Keys().events, {name: 1_700_000_000_000 + i for i, name in enumerate(names)})

    async def listed(query: str) -> Any:
        answer = await http.get(f"{EVENTS}{query}", headers=OPERATOR)
        assert answer.status_code == 200, answer.text
        return answer.json()

    everything = await listed("")
    # The api may still list an event of the test before.
    assert [one["event_id"] for one in everything["events"]][:5] == names
    assert everything["events"][0]["last_activity"] == "2023-11-14T22:13:20.000000Z"
    assert (everything["offset"], everything["total"]) == (0, len(everything["events"]))
    page = await listed("?offset=2&limit=2")
    assert [one["event_id"] for one in page["events"]] == names[2:4]
    assert page["offset"] == 2
    assert page["total"] >= 5
    assert (await listed("?offset=999999999"))["events"] == []
    assert (await listed("?limit=0"))["events"] == []


async def test_a_join_puts_the_event_on_the_list(http: httpx.AsyncClient, event: str) -> None:
    await join(http, event)

    async def listed() -> bool:
        answer = await http.get(EVENTS, headers=OPERATOR)
        return event in [one["event_id"] for one in answer.json()["events"]]

    await eventually(listed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"rate"',
        b'{"rate": -1}',
        b'{"rate": 1e7}',
        b'{"rate": "50"}',
        b'{"rate": null}',
        b'{"rate": true}',
        b'{"burst": -0.5}',
        b'{"pass_ttl": 0}',
        b'{"pass_ttl": 1e9}',
        b'{"paused": 1}',
        b'{"paused": "yes"}',
        b'{"speed": 50}',
        b'{"rate": 50, "bust": 1}',
    ],
)
async def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(
    http: httpx.AsyncClient, event: str, body: bytes
) -> None:
    answer = await http.put(f"{EVENTS}/{event}", content=body, headers=OPERATOR)
    refused(answer, 422, "INVALID_REQUEST")
    refused(await http.get(f"{EVENTS}/{event}", headers=OPERATOR), 404, "EVENT_NOT_FOUND")


@pytest.mark.parametrize("name", ["a b", "a~b", "x" * 65, "대기", ""])
async def test_an_ill_formed_event_cannot_be_declared_or_found(http: httpx.AsyncClient, name: str) -> None:
    refused(await http.put(f"{EVENTS}/{name}", json={}, headers=OPERATOR), 422, "INVALID_REQUEST")
    refused(await http.get(f"{EVENTS}/{name}", headers=OPERATOR), 404, "EVENT_NOT_FOUND")
    refused(await http.post(f"{EVENTS}/{name}/relog", headers=OPERATOR), 409, "NOT_DAMAGED")


@pytest.mark.parametrize("name", ["-", "%2E", "%2e%2e"])
async def test_an_event_whose_room_would_have_no_address_cannot_be_declared(http: httpx.AsyncClient, name: str) -> None:
    error = refused(await http.put(f"{EVENTS}/{name}", json={}, headers=OPERATOR), 422, "INVALID_REQUEST")
    assert "no address" in error["message"]
    refused(await http.get(f"{EVENTS}/{name}", headers=OPERATOR), 404, "EVENT_NOT_FOUND")


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=1.5", "limit=%C2%B2", "offset=1234567890"])
async def test_an_ill_formed_page_is_refused(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"{EVENTS}?{query}", headers=OPERATOR)
    refused(answer, 422, "INVALID_REQUEST")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", EVENTS), ("GET", f"{EVENTS}/concert"), ("PUT", f"{EVENTS}/concert"), ("POST", f"{EVENTS}/concert/relog")],
)
async def test_without_a_key_nothing_can_be_read_or_changed(
    http: httpx.AsyncClient, redis: Redis, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await http.request(method, path, headers=headers, content=b'{"rate": 1}')
    refused(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not await redis.exists(Keys().event("concert").config)


async def test_without_keys_there_is_no_admin_api(redis_server: RedisServer, event: str) -> None:
    async with running(Api(redis_server.url, admin_keys=[])) as http:
        for headers in ({}, OPERATOR, {"Authorization": "Bearer"}):
            refused(await http.get(EVENTS, headers=headers), 503, "ADMIN_DISABLED")
            refused(await http.put(f"{EVENTS}/{event}", json={}, headers=headers), 503, "ADMIN_DISABLED")
        await join(http, event)


async def test_any_of_several_keys_is_accepted(redis_server: RedisServer) -> None:
    async with running(Api(redis_server.url, admin_keys=["one key", "the other key"])) as http:
        for key in ("one key", "the other key"):
            answer = await http.get(EVENTS, headers={"Authorization": f"bearer {key}"})
            assert answer.status_code == 200
        refused(await http.get(EVENTS, headers={"Authorization": "Bearer one"}), 401, "UNAUTHORIZED")


async def test_the_log_of_an_undamaged_line_is_not_rebuilt(http: httpx.AsyncClient, event: str) -> None:
    await join(http, event)
    refused(await http.post(f"{EVENTS}/{event}/relog", headers=OPERATOR), 409, "NOT_DAMAGED")
    assert (await status(http, (await join(http, event))["waiting_token"]))["position"] == 2


async def test_an_operator_ends_the_alarm_of_a_member_without_a_log_entry(
    http: httpx.AsyncClient, live_line: Line, redis: Redis, event: str
) -> None:
    tickets = await fill(live_line, event, 3)
    keys = Keys().event(event)
    await redis.xdel(keys.stream, f"{tickets[1] // 1000}-{tickets[1] % 1000}")
    assert (await read(http, event))["damaged"] is True
    answer = await http.post(f"{EVENTS}/{event}/relog", headers=OPERATOR)
    assert (answer.status_code, answer.json()) == (202, {"status": "repairing"})
    # Until a worker has written the log, nobody new is given a place in front of those it had forgotten.
    refused(await try_join(http, event), 503, "UNAVAILABLE")


async def test_when_events_must_be_declared_a_join_of_another_is_refused(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with running(Api(redis_server.url, open_events=False)) as http:
        refused(await try_join(http, event), 404, "EVENT_NOT_FOUND")
        refused(await http.get(f"{EVENTS}/{event}", headers=OPERATOR), 404, "EVENT_NOT_FOUND")
        assert not await redis.exists(*Keys().event(event))
        await configure(http, event)
        assert (await join(http, event))["position_hint"] == 1


async def test_a_flood_of_names_is_capped_and_declared_events_are_not(redis_server: RedisServer, event: str) -> None:
    # Keys of its own, or the events of other tests would count.
    async with running(Api(redis_server.url, max_events=3, key_prefix="capped:")) as http:
        for i in range(3):
            await join(http, f"{event}-{i}")
        refused(await try_join(http, f"{event}-3"), 503, "OVERLOADED")
        # The events that are there go on.
        assert (await join(http, f"{event}-0"))["position_hint"] == 2
        await configure(http, f"{event}-3")
        await join(http, f"{event}-3")
