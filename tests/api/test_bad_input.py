"""Bad input: each piece gets a clear 4xx in the envelope, and none costs Redis a command."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.api.bad_requests import BAD, JOIN, Bad
from tests.support.calls import client, join, try_join
from tests.support.processes import Api
from tests.support.raw_http import post, read_answer
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused
from tests.support.waiting import eventually

PREFIX = "bad-input:"


@pytest.fixture
def api(redis_server: RedisServer) -> Iterator[Api]:
    """One whose keys tell its commands from everybody else's."""
    with Api(redis_server.url, key_prefix=PREFIX) as started:
        yield started


async def _send(api: Api, request: bytes) -> httpx.Response:
    reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
    writer.write(request)
    return await read_answer(reader, writer)


@pytest.mark.parametrize("bad", [pytest.param(bad, id=bad.name) for bad in BAD])
async def test_it_is_refused_clearly(shared_api: Api, bad: Bad) -> None:
    answer = await _send(shared_api, bad.request)
    refused(answer, bad.status, bad.code)
    if bad.status == 405:
        assert answer.headers["allow"]
    if bad.status == 413:
        assert answer.headers["connection"] == "close"
    if bad.status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_none_of_it_costs_redis_a_command(api: Api, redis_server: RedisServer, redis: Redis) -> None:
    async with Monitor(redis_server.url) as monitor, client(api.url) as http:
        for bad in BAD:
            assert (await _send(api, bad.request)).status_code == bad.status
        answered = len(await monitor.commands())

        async def went_by() -> list[str]:
            """All commands, once two more pulses show that what is sent once a second has been sent too."""
            commands = await monitor.commands()
            pulses = sum(f"{PREFIX}pulse" in command for command in commands[answered:])
            return commands if pulses >= 2 else []

        commands = await eventually(went_by)
        assert [command for command in commands if PREFIX in command and not _is_routine(command)] == []
        # The monitor does see what this api sends.
        await join(http, "concert")
        assert any("{concert}" in command for command in await monitor.commands())


def _is_routine(command: str) -> bool:
    return f"{PREFIX}pulse" in command or command == f"ZCARD {PREFIX}events"


async def test_the_request_id_comes_back_as_the_trace_id(http: httpx.AsyncClient) -> None:
    for given in ("r-1", "a" * 128, "!~{}\\"):
        answer = await http.post(JOIN, json={}, headers={"X-Request-ID": given})
        assert refused(answer, 400, "MISSING_EVENT_ID")["trace_id"] == given


@pytest.mark.parametrize("evil", ["a" * 129, "two words", "tab\there", "\xe9", ""])
async def test_an_evil_request_id_is_replaced_by_one_of_ours(shared_api: Api, evil: str) -> None:
    answer = await _send(shared_api, post(JOIN, {}, f"X-Request-ID: {evil}"))
    trace_id = answer.json()["error"]["trace_id"]
    assert trace_id != evil
    assert trace_id.isalnum()
    assert 8 <= len(trace_id) <= 32


async def test_without_a_request_id_every_refusal_has_its_own(http: httpx.AsyncClient) -> None:
    answers = [await http.post(JOIN, json={}) for _ in range(3)]
    assert len({answer.json()["error"]["trace_id"] for answer in answers}) == 3


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v1/queue/join", "POST"),
        ("/api/v1/queue/status", "GET, HEAD"),
        ("/api/v1/queue/enter", "POST"),
        ("/api/v1/queue/leave", "DELETE, POST"),
        ("/api/v1/queue/redeem", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/api/v1/admin/events", "GET, HEAD"),
        ("/api/v1/admin/events/concert", "GET, HEAD, PUT"),
        ("/api/v1/admin/events/concert/relog", "POST"),
    ],
)
async def test_the_refusal_of_a_wrong_method_names_the_right_ones(
    http: httpx.AsyncClient, path: str, methods: str
) -> None:
    answer = await http.request("PATCH", path)
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == methods


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    "body",
    [
        b'{"event_id": "EVENT", "x": 1e999999}',
        b'{"event_id": "EVENT", "x": 1' + b"0" * 8000 + b"}",
        b'{"event_id": "another", "event_id": "EVENT"}',
        b'{"event_id": "EVENT", "user_id": null, "": "", "event_id2": {}}',
        b' \n\t{"event_id": "EVENT"}\n',
        b'\xef\xbb\xbf{"event_id": "EVENT"}',
        b'{"event_id": "EVENT", "pad": "' + b"x" * 16_000 + b'"}',
        b'{"event_id": "EVENT", "user_id": "\\u0000\\n\\ud83d\\ude00"}',
    ],
)
async def test_odd_but_sound_bodies_join(shared_api: Api, event: str, body: bytes) -> None:
    answer = await _send(shared_api, post(JOIN, body.replace(b"EVENT", event.encode())))
    # A number that nobody asked for may be beyond what JSON readers take; that is the sender's fault then.
    assert answer.status_code in ({202, 400} if b'"x"' in body else {202}), answer.text


async def test_a_body_that_ends_before_its_length_is_refused(shared_api: Api) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, shared_api.port)
    writer.write(post(JOIN, {"event_id": "concert"})[:-1])
    writer.write_eof()
    refused(await read_answer(reader, writer), 400, "INVALID_REQUEST")


async def test_a_refused_body_leaves_the_connection_good_for_the_next(http: httpx.AsyncClient, event: str) -> None:
    async with client(str(http.base_url), limits=httpx.Limits(max_connections=1)) as one:
        for _ in range(3):
            assert (await one.post(JOIN, content=b"{")).status_code == 400
            assert (await one.post(JOIN, content=b" " * 20_000)).status_code == 413
            assert (await try_join(one, event)).status_code == 202
