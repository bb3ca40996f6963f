"""Any request gets an answer of ours: an envelope or a success, never a 5xx."""

import random
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.bad_requests import ENTER, JOIN, LEAVE, REDEEM, STATUS
from tests.chaos.fuzz import fuzz
from tests.support.odd_input import bodies, header_values, visible
from tests.support.processes import Api
from tests.support.settings import OPERATOR

NOBODY: dict[str, str] = {}


@pytest.fixture(scope="module")
def client(shared_api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_api.url, timeout=30, trust_env=False) as opened:
        yield opened


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    if answer.status_code >= 400:
        assert told.keys() == {"error"}
        assert told["error"].keys() >= {"code", "message", "trace_id"}
        assert "Traceback" not in answer.text
    else:
        assert "error" not in told


@given(st.sampled_from([JOIN, ENTER, REDEEM]), bodies)
@example(JOIN, b'{"event_id": "\\ud800"}')
@example(JOIN, b'{"event_id": "fuzz", "user_id": "\\udfff"}')
@settings(max_examples=120)
def test_any_body_is_answered(client: httpx.Client, path: str, body: bytes) -> None:
    check(client.post(path, content=body))


@given(bodies)
@settings(max_examples=60)
def test_any_change_of_an_event_is_answered(client: httpx.Client, body: bytes) -> None:
    check(client.put("/api/v1/admin/events/fuzz", content=body, headers=OPERATOR))


@given(visible, st.sampled_from(["GET", "DELETE", "POST"]))
@example("&" * 16 + "token=x", "GET")
@example("token=" + "%ff" * 60, "DELETE")
@example("token=%F0%9F%8E%AB~~~", "GET")
@settings(max_examples=80)
def test_any_query_is_answered(client: httpx.Client, query: str, method: str) -> None:
    path = STATUS if method == "GET" else LEAVE
    for written in (query, f"token={query}"):
        check(client.request(method, httpx.URL(str(client.base_url)).copy_with(raw_path=f"{path}?{written}".encode())))


@given(visible)
@example("a=1&" * 20)
@example("offset=1&offset=x")
@example("offset=99999999999999999999")
@example("limit=%C2%B2")
@settings(max_examples=60)
def test_any_list_of_events_is_answered(client: httpx.Client, query: str) -> None:
    for written in (query, f"offset={query}", f"limit={query}"):
        url = httpx.URL(str(client.base_url)).copy_with(raw_path=f"/api/v1/admin/events?{written}".encode())
        check(client.get(url, headers=OPERATOR))


@given(st.dictionaries(st.sampled_from([b"Idempotency-Key", b"X-Request-ID", b"X-User-Id", b"Origin"]), header_values))
@example({b"X-User-Id": b"\xff"})
@example({b"Origin": b"https://shop.example\xff"})
@settings(max_examples=80)
def test_any_header_is_answered(client: httpx.Client, headers: dict[bytes, bytes]) -> None:
    answer = client.post(JOIN, json={"event_id": "fuzz"}, headers=list(headers.items()))
    check(answer)
    if answer.status_code == 202:
        token = answer.json()["waiting_token"]
        for path, field in ((ENTER, "waiting_token"), (REDEEM, "reservation_token")):
            answer = client.post(path, json={field: token})
            check(answer)
            token = answer.json().get("reservation_token", "")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
@settings(max_examples=60)
def test_any_event_in_a_path_is_answered(client: httpx.Client, name: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=f"/api/v1/admin/events/{quote(name)}".encode())
    for method, headers in (("GET", OPERATOR), ("PUT", OPERATOR), ("GET", NOBODY)):
        check(client.request(method, url, headers=headers))


def test_whole_requests_and_torn_ones_are_answered_over_plain_sockets(shared_api: Api) -> None:
    # `python -m tests.chaos.fuzz` sends 100,000.
    fuzzed = fuzz(shared_api.port, 300, lambda _: None, random.randrange(10**6))
    assert sum(fuzzed.answers.values()) >= 300
    assert fuzzed.answers[400]
