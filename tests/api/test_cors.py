"""CORS: pages of allowed origins may call the api, and read every answer and every refusal."""

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from tests.api.bad_requests import ENTER, JOIN, LEAVE, REDEEM, STATUS
from tests.support.calls import running
from tests.support.processes import Api
from tests.support.refusals import refused

OURS, THEIRS = {"Origin": "https://shop.example"}, {"Origin": "https://shop.example.evil"}
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}


@pytest.mark.parametrize("path", [JOIN, STATUS, ENTER, LEAVE, REDEEM, "/api/v1/admin/events/concert"])
async def test_a_preflight_says_what_a_page_of_ours_may_send(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.options(path, headers=OURS | ASKS)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert method in answer.headers["access-control-allow-methods"]
    for header in ("content-type", "idempotency-key", "authorization", "x-request-id"):
        assert header in answer.headers["access-control-allow-headers"]
    assert answer.headers["vary"] == "origin"
    # Cookies play no part here.
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.usefixtures("redis")
async def test_answers_and_refusals_can_be_read_by_pages_of_ours_only(http: httpx.AsyncClient, event: str) -> None:
    for content, code in ((f'{{"event_id": "{event}"}}', 202), ("{", 400)):
        ours = await http.post(JOIN, content=content, headers=OURS)
        theirs = await http.post(JOIN, content=content, headers=THEIRS)
        plain = await http.post(JOIN, content=content)
        assert [answer.status_code for answer in (ours, theirs, plain)] == [code] * 3
        assert ours.headers["access-control-allow-origin"] == "https://shop.example"
        # Or a page would not know when to come back.
        assert ours.headers["access-control-expose-headers"] == "retry-after"
        for answer in (theirs, plain):
            assert "access-control-allow-origin" not in answer.headers
        # A cache must not give one origin's answer to another.
        assert {answer.headers["vary"] for answer in (ours, theirs, plain)} == {"origin"}


async def test_a_preflight_of_a_path_that_is_not_there_is_a_404(http: httpx.AsyncClient) -> None:
    refused(await http.options("/nowhere", headers=OURS | ASKS), 404, "NOT_FOUND")


@pytest.mark.parametrize(("origins", "allowed"), [(["*"], "*"), ([], None)])
async def test_all_origins_or_none(
    redis_server: RedisServer, redis: Redis, event: str, origins: list[str], allowed: str | None
) -> None:
    async with running(Api(redis_server.url, cors_origins=origins)) as http:
        answer = await http.post(JOIN, json={"event_id": event}, headers=THEIRS)
        assert answer.status_code == 202
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert "vary" not in answer.headers
        preflight = await http.options(JOIN, headers=THEIRS | ASKS)
        if allowed:
            assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "*")
        else:
            refused(preflight, 405, "METHOD_NOT_ALLOWED")
