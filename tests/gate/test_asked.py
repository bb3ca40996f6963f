"""What a proxy tells the gate of the visitor's request, and what the gate makes of it."""

import pytest

from api.gate.asked import MOST_URL, Asked, Dialect, is_document, is_navigation, is_preflight
from api.http.asgi import AsgiRequest, Message
from api.http.request import Request
from api.http.slow_bodies import SlowBodies


def asked_by(headers: list[tuple[str, str]], *, method: str = "GET", rest: str = "", query: str = "") -> Request:
    async def receive() -> Message:
        raise AssertionError("nobody asks for a body")

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"method": method, "path": "/x", "query_string": query.encode(), "headers": raw, "client": None}
    request = AsgiRequest(scope, receive, SlowBodies())
    request.parameters = {"rest": rest}
    return request


@pytest.mark.parametrize(
    ("dialect", "header"), [("nginx", "X-Original-URI"), ("forwarded", "X-Forwarded-Uri")], ids=["nginx", "forwarded"]
)
def test_url_and_method_stand_in_the_dialects_own_headers(dialect: Dialect, header: str) -> None:
    told = [(header, "/checkout?step=2"), ("X-Forwarded-Method", "post")]
    assert Asked.read(asked_by(told), dialect) == Asked("/checkout?step=2", "POST")
    others = [
        ("X-Original-URI", "/a"),
        ("X-Forwarded-Uri", "/b"),
        ("X-Original-URL", "/c"),
        ("X-Forwarded-Method", "GET"),
    ]
    assert Asked.read(asked_by(others), dialect).url == {"nginx": "/a", "forwarded": "/b"}[dialect]


@pytest.mark.parametrize(
    "told",
    [
        [],
        [("X-Original-URI", "/a"), ("X-Original-URI", "/b")],
        [("X-Original-URI", "")],
        [("X-Original-URI", "checkout")],
        [("X-Original-URI", "https://evil.example/")],
        [("X-Original-URI", "/" + "x" * MOST_URL)],
    ],
)
def test_what_is_missing_double_or_no_path_is_not_told(told: list[tuple[str, str]]) -> None:
    assert Asked.read(asked_by(told), "nginx").url is None


def test_of_a_long_url_the_path_alone_is_carried_along() -> None:
    told = [("X-Original-URI", "/checkout?" + "x" * MOST_URL)]
    assert Asked.read(asked_by(told), "nginx").url == "/checkout"


def test_envoy_appends_the_path_and_keeps_the_method() -> None:
    request = asked_by([("X-Forwarded-Method", "GET")], method="POST", rest="/check out", query="a=b")
    assert Asked.read(request, "envoy") == Asked("/check%20out?a=b", "POST")
    assert Asked.read(asked_by([]), "envoy").url is None


def test_envoys_path_leads_back_to_where_the_visitor_asked_for() -> None:
    # As /100%25/a%252fb arrives.
    assert Asked.read(asked_by([], rest="/100%/a%2fb"), "envoy").url == "/100%25/a%252fb"


NAVIGATES = [("Sec-Fetch-Mode", "navigate")]
TAKES_HTML = [("Accept", "text/html,application/xhtml+xml")]


@pytest.mark.parametrize(
    ("headers", "method", "expected"),
    [
        (NAVIGATES, "GET", True),
        (TAKES_HTML, "GET", True),
        (NAVIGATES, "POST", False),
        (TAKES_HTML, "HEAD", False),
        ([("Sec-Fetch-Mode", "cors"), *TAKES_HTML], "GET", False),
        ([("Sec-Fetch-Mode", "no-cors")], "GET", False),
        ([("Accept", "*/*")], "GET", False),
        ([("Accept", "application/json")], "GET", False),
        ([], "GET", False),
        ([*NAVIGATES, ("Sec-Purpose", "prefetch")], "GET", False),
        ([*NAVIGATES, ("Sec-Purpose", "prefetch;prerender")], "GET", False),
        ([*TAKES_HTML, ("Purpose", "Prefetch")], "GET", False),
    ],
)
def test_a_navigation_is_told_from_whatever_else_a_page_loads(
    headers: list[tuple[str, str]], method: str, expected: bool
) -> None:
    assert is_navigation(asked_by(headers), method) is expected


def test_a_forms_post_is_a_document_and_no_navigation() -> None:
    request = asked_by([*NAVIGATES, *TAKES_HTML])
    assert is_document(request)
    assert not is_navigation(request, "POST")


@pytest.mark.parametrize(
    ("headers", "method", "expected"),
    [
        ([("Access-Control-Request-Method", "PUT")], "OPTIONS", True),
        ([("Access-Control-Request-Method", "PUT")], "GET", False),
        ([], "OPTIONS", False),
    ],
)
def test_a_preflight_is_options_that_asks_for_a_method(
    headers: list[tuple[str, str]], method: str, expected: bool
) -> None:
    assert is_preflight(asked_by([*headers, ("X-Forwarded-Method", method)]), "nginx") is expected
    assert is_preflight(asked_by(headers, method=method), "envoy") is expected
