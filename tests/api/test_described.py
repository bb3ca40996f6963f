"""The api answers as described, on every path and to every request that Schemathesis generates."""

import asyncio
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.api.bad_requests import JOIN, STRANGER, TICKET
from tests.api.described import Description
from tests.support.calls import (
    client,
    configure,
    enter,
    join,
    leave,
    redeem,
    running,
    status,
    try_enter,
    try_join,
    try_redeem,
    try_status,
)
from tests.support.listening import STREAM
from tests.support.ports import free_port
from tests.support.processes import Api
from tests.support.refusals import refused
from tests.support.settings import ADMIN_KEY, OPERATOR, SECRET

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
ADMIN = "/api/v1/admin/events"
NEEDS_A_FAULT = 500
NEEDS_TEN_SECONDS = 408  # tests/api/test_slow_connections.py has them


async def test_every_answer_that_is_described_is_given_and_no_other(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    api = Api(redis_server.url, trusted_user_header="X-User-Id")
    async with running(api) as plain:
        description = Description((await plain.get("/openapi.json")).json())
        async with client(api.url, event_hooks={"response": [description.watch]}) as http:
            for path, method, operation in description.operations():
                if operation["tags"] == ["operations"]:
                    await http.request(method, path)
            await a_visit(http, event)
            await an_operators_day(http, redis, event)
            await through_the_gate(http, f"{event}-gate")
    closed = Api(redis_server.url, open_events=False, joins_per_minute=2)
    await those_of_trouble(closed, description, too_many_joins)
    await those_of_trouble(Api(nowhere(), probe="/healthz"), description, nothing_but_unavailable)
    await those_of_trouble(Api(nowhere(), probe="/healthz", admin_keys=[]), description, no_operators)
    missing = description.answers() - description.seen
    assert {(name, status) for name, status in missing if status not in {NEEDS_A_FAULT, NEEDS_TEN_SECONDS}} == set()


async def a_visit(http: httpx.AsyncClient, event: str) -> None:
    """From the first join to the last refusal."""
    key = "a-key-of-sixteen-or-more"
    await configure(http, event, rate=0, burst=1)
    first = (await join(http, event, key=key, label="ann"))["waiting_token"]
    assert (await join(http, event, key=key, label="ann"))["waiting_token"] == first
    refused(await try_join(http, event, key=key, label="bob"), 422, "IDEMPOTENCY_KEY_REUSED")
    second = (await join(http, event, user="cid"))["waiting_token"]
    assert (await status(http, first))["status"] == "ready"
    refused(await try_enter(http, second), 403, "NOT_READY")
    await configure(http, event, paused=True)
    refused(await try_enter(http, first), 403, "EVENT_PAUSED")
    assert (await status(http, second))["eta_sec"] is None
    await configure(http, event, paused=False)
    reservation = (await enter(http, first))["reservation_token"]
    assert (await redeem(http, reservation))["user_id"] == "ann"
    refused(await try_redeem(http, reservation), 409, "ALREADY_REDEEMED")
    refused(await try_enter(http, first), 409, "ALREADY_REDEEMED")
    assert (await status(http, first))["status"] == "admitted"
    for method in ("DELETE", "POST"):
        assert (await leave(http, second, method)).status_code == 200
        assert (await leave(http, "w~forged", method)).status_code == 400
    refused(await try_status(http, second), 404, "TOKEN_EXPIRED")
    # Who has been let in is told so, and nothing after it.
    assert (await http.get(STREAM, params={"token": first})).text.count("event: place") == 1
    refused(await http.get(STREAM, params={"token": second}), 404, "TOKEN_EXPIRED")
    refused(await http.get(STREAM), 400, "MISSING_TOKEN")
    refused(await try_enter(http, second), 404, "TOKEN_EXPIRED")
    await configure(http, f"{event}-hasty", pass_ttl=0.001)
    lapsed = (await enter(http, (await join(http, f"{event}-hasty"))["waiting_token"]))["reservation_token"]
    await asyncio.sleep(0.01)
    refused(await try_redeem(http, lapsed), 404, "RESERVATION_EXPIRED")
    for refuse in (try_status, try_enter, try_redeem):
        refused(await refuse(http, STRANGER.waiting(event, TICKET)), 400, "INVALID_TOKEN")
    for path in (JOIN, "/api/v1/queue/enter", "/api/v1/queue/redeem"):
        refused(await http.post(path, content=b" " * 20_000), 413, "PAYLOAD_TOO_LARGE")
        refused(await http.post(path, data={"event_id": event}), 415, "UNSUPPORTED_MEDIA_TYPE")
    refused(await http.post(JOIN, json={}), 400, "MISSING_EVENT_ID")
    # As small as a number can be.
    await configure(http, f"{event}-slow", rate=5e-324, burst=0)
    last = (await join(http, f"{event}-slow"))["waiting_token"]
    assert (await status(http, last))["eta_sec"] == 31_536_000


async def an_operators_day(http: httpx.AsyncClient, redis: Redis, event: str) -> None:
    """All that they may do, and may not."""
    paths = (
        ("GET", ADMIN),
        ("GET", f"{ADMIN}/{event}"),
        ("PUT", f"{ADMIN}/{event}"),
        ("POST", f"{ADMIN}/{event}/relog"),
    )
    for method, path in paths:
        refused(await http.request(method, path), 401, "UNAUTHORIZED")
    assert (await http.get(ADMIN, headers=OPERATOR)).json()["total"] >= 1
    refused(await http.get(f"{ADMIN}?limit=-1", headers=OPERATOR), 422, "INVALID_REQUEST")
    assert (await http.get(f"{ADMIN}/{event}", headers=OPERATOR)).json()["declared"]
    refused(await http.get(f"{ADMIN}/never-heard-of", headers=OPERATOR), 404, "EVENT_NOT_FOUND")
    refused(await http.put(f"{ADMIN}/{event}", json={"rate": -1}, headers=OPERATOR), 422, "INVALID_REQUEST")
    too_large = await http.put(f"{ADMIN}/{event}", content=b" " * 20_000, headers=OPERATOR)
    refused(too_large, 413, "PAYLOAD_TOO_LARGE")
    form = await http.put(f"{ADMIN}/{event}", data={"rate": "1"}, headers=OPERATOR)
    refused(form, 415, "UNSUPPORTED_MEDIA_TYPE")
    refused(await http.post(f"{ADMIN}/{event}/relog", headers=OPERATOR), 409, "NOT_DAMAGED")
    await join(http, event)
    # Somebody is in line whom the log does not know.
    await redis.zadd(Keys().event(event).queue, {str(TICKET): TICKET})
    assert (await http.post(f"{ADMIN}/{event}/relog", headers=OPERATOR)).status_code == 202


async def through_the_gate(http: httpx.AsyncClient, event: str) -> None:
    """A proxy asks for visitors with and without a pass; then one session ends."""
    gate = f"/api/v1/gate/{event}"
    dialects = [f"{gate}/{dialect}/authorize" for dialect in ("nginx", "forwarded", "envoy")]
    for path in dialects:
        refused(await http.get(path), 404, "EVENT_NOT_FOUND")
    await configure(http, event)
    await asyncio.sleep(1.1)
    told = {"X-Forwarded-Method": "GET", "X-Original-URI": "/x", "X-Forwarded-Uri": "/x"}
    for path in dialects:
        assert (await http.get(path, headers=told | {"Sec-Fetch-Mode": "navigate"})).status_code in {302, 401}
        assert (await http.get(path, headers=told | {"Sec-Fetch-Mode": "cors"})).status_code in {403, 429}
        preflight = {"X-Forwarded-Method": "OPTIONS", "Access-Control-Request-Method": "PUT"}
        answer = await http.get(path, headers=preflight)
        assert answer.status_code == (429 if "envoy" in path else 200)
    token = (await join(http, event))["waiting_token"]
    reservation = Signer([SECRET]).verify_reservation((await enter(http, token))["reservation_token"])
    until = reservation.issued + 20_000
    good = Signer([SECRET]).pass_token(event, reservation.ticket, reservation.issued, until)
    cookie = {"Cookie": f"daegi_p_{blake2b(event.encode(), digest_size=5).hexdigest()}={good}"}
    for path in dialects:
        assert (await http.get(path, headers=cookie)).status_code == 200
    assert (await http.post(f"{gate}/release", headers=cookie)).status_code == 200
    refused(await http.post(f"{gate}/release", json={}), 400, "INVALID_TOKEN")
    refused(await http.post(f"{gate}/release", content=b"{"), 400, "INVALID_REQUEST")
    refused(await http.post(f"{gate}/release", content=b" " * 20_000), 413, "PAYLOAD_TOO_LARGE")
    refused(await http.post(f"{gate}/release", data={"x": "y"}), 415, "UNSUPPORTED_MEDIA_TYPE")


async def those_of_trouble(api: Api, description: Description, trouble: Any) -> None:
    async with running(api), client(api.url, event_hooks={"response": [description.watch]}) as http:
        await trouble(http)


def nowhere() -> str:
    """Where no Redis is."""
    return f"redis://127.0.0.1:{free_port()}/0"


async def too_many_joins(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        refused(await try_join(http, "never-declared"), 404, "EVENT_NOT_FOUND")
    refused(await try_join(http, "never-declared"), 429, "RATE_LIMITED")


async def nothing_but_unavailable(http: httpx.AsyncClient) -> None:
    ours = Signer([SECRET])
    token, reservation = ours.waiting("concert", TICKET), ours.reservation("concert", TICKET, TICKET // 1000)
    answers = [
        await try_join(http, "concert"),
        await try_status(http, token),
        await http.get(STREAM, params={"token": token}),
        await try_enter(http, token),
        *[await leave(http, token, method) for method in ("DELETE", "POST")],
        await try_redeem(http, reservation),
        *[await http.get(f"/api/v1/gate/concert/{way}/authorize") for way in ("nginx", "forwarded", "envoy")],
        await http.post(
            "/api/v1/gate/concert/release",
            json={"reservation_token": ours.reservation("concert", TICKET, TICKET // 1000)},
        ),
        await http.get(ADMIN, headers=OPERATOR),
        await http.get(f"{ADMIN}/concert", headers=OPERATOR),
        await http.put(f"{ADMIN}/concert", json={}, headers=OPERATOR),
        await http.post(f"{ADMIN}/concert/relog", headers=OPERATOR),
    ]
    for answer in answers:
        refused(answer, 503, "UNAVAILABLE")
    for method in ("GET", "HEAD"):
        assert (await http.request(method, "/readyz")).status_code == 503


async def no_operators(http: httpx.AsyncClient) -> None:
    refused(await http.get(ADMIN, headers=OPERATOR), 503, "ADMIN_DISABLED")


# It asks for whatever the list of events names: those of other tests may be damaged.
@pytest.mark.usefixtures("redis")
async def test_schemathesis_finds_no_answer_that_is_not_described(redis_server: RedisServer, tmp_path: Path) -> None:
    async with running(Api(redis_server.url)) as http:
        await explore(http, tmp_path)


async def test_schemathesis_finds_none_either_where_everything_is_refused(tmp_path: Path) -> None:
    api = Api(nowhere(), joins_per_minute=10, trusted_user_header="X-User-Id", probe="/healthz")
    async with running(api) as http:
        conformance = ("status_code", "content_type", "response_headers", "response_schema")
        await explore(
            http,
            tmp_path,
            *("--header", "X-User-Id: ann", "--phases", "coverage"),
            *("--checks", ",".join(f"{what}_conformance" for what in conformance)),
        )


async def explore(http: httpx.AsyncClient, where: Path, *arguments: str) -> None:
    """Has Schemathesis ask for everything that the description knows of, in every way."""
    program = (sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIGURATION), "run")
    headers = ("--header", f"Authorization: Bearer {ADMIN_KEY}")
    running = await asyncio.create_subprocess_exec(
        *(*program, f"{http.base_url}/openapi.json", *headers, *arguments),
        cwd=where,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said = (await running.communicate())[0].decode()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0, said
    assert "Operations:       26 selected" in said
