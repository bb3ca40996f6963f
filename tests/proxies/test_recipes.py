"""Nothing reaches a guarded site without a pass, whatever is sent, and everything does with one.

Each of these broke a rule of ours behind a real proxy once, or could have.
"""

from urllib.parse import quote

import httpx
import pytest

from shared.dev.redis_server import LOCALHOST
from tests.proxies.conftest import Site, declare, new_site
from tests.proxies.proxy import Proxy
from tests.proxies.raw import NAVIGATION, Headers, send, upgrade
from tests.proxies.upstream import Reached, Upstream
from tests.support.processes import Api

TICKET = "1790000000000001"

TARGETS = [
    "/",
    "/checkout",
    "/CHECKOUT",
    "/checkout/",
    "//checkout",
    "/./checkout",
    "/a/../checkout",
    "/a/..%2fcheckout",
    "/a/..%2Fcheckout",
    "/a/%2e%2e/checkout",
    "/a/%2E%2E/checkout",
    "/a/..;/checkout",
    "/checkout;/",
    "/checkout;x=/assets/a",
    "/%63heckout",
    "/checkout%00",
    "/checkout%00/assets/a.css",
    "/checkout%0d%0aX-Daegi-Ticket:%201",
    "/checkout%20",
    "/checkout\\..\\assets",
    "/checkout#/assets/a.css",
    "/checkout?/assets/a.css",
    "/assets",
    "/assets/",
    "/assets/..;/checkout",
    "/assets/../checkout",
    "/assets/..%2fcheckout",
    "/assets/%2e%2e/checkout",
    "/assets/..%5ccheckout",
    "/assets/..%252fcheckout",
    "/assets/%252e%252e/checkout",
    "/assets/a%00/../../checkout",
    "/assets/a;/../../checkout",
    "/assets/\xe9",
    "/assets/a.css%0a",
    "/assets/a.css%0a%0a",
    "/assets/a.css%0d%0aX-Daegi-Ticket:1",
    "/assets/a.css/..%0a",
    "/Assets/a.css",
    "/waiting-room",
    "/waiting-room/../checkout",
    "/waiting-room/..%2fcheckout",
    "/waiting-room/%2e%2e/checkout",
    "/waiting-room/..;/checkout",
    "/WAITING-ROOM/sale",
    "/_daegi",
    "/_daegi?x",
    "/_DAEGI",
    "/api/v1/gate/sale/nginx/authorize",
    "/api/v1/queue/status",
    "/checkout?event=other",
    "/?event=sale&next=/checkout",
    "/checkout?daegi_pass=1",
    "/\xed\x8f\xac",
    "/checkout?q=\xff",
    "/%",
    "/%zz",
    "/" + "a" * 3_000,
    "/" + "a" * 20_000,
    "/checkout?" + "a" * 6_000,
    "http://shop.example/checkout",
    "http://other.example/checkout",
    "http://other.example/assets/../checkout",
    "*",
    "checkout",
    "",
]

METHODS = [
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PURGE",
    "FOO",
    "get",
    "G\xcbT",
]

WRITTEN = "written-by-the-visitor"

HEADERS: dict[str, str] = {
    "X-Original-URI": "/assets/written-by-the-visitor",
    "X-Original-URL": "/assets/written-by-the-visitor",
    "X-Original-Method": WRITTEN,
    "X-Rewrite-URL": "/assets/written-by-the-visitor",
    "X-Forwarded-Uri": "/assets/written-by-the-visitor",
    "X-Forwarded-Method": WRITTEN,
    "X-Forwarded-For": WRITTEN,
    "X-Forwarded-Host": WRITTEN,
    "X-Forwarded-Proto": WRITTEN,
    "X-Forwarded-Prefix": WRITTEN,
    "X-Forwarded-Server": WRITTEN,
    "X-Daegi-Ticket": WRITTEN,
    "X-Daegi-Event": WRITTEN,
    "X-Daegi-Entered": WRITTEN,
    "X-Daegi-Mode": WRITTEN,
    "X-Daegi-Location": WRITTEN,
    "x-daegi-ticket": WRITTEN,
    "X_Daegi_Ticket": WRITTEN,
    "X-Daegi_Ticket": WRITTEN,
    "x_daegi-entered": WRITTEN,
    "Forwarded": f"for={WRITTEN}",
}

STRANGE_COOKIES = [
    "",
    "a=1",
    "daegi_p_=1",
    "daegi_p_0123456789=p~sale~1~1~9~aaaa",
    "; ".join(f"c{number}=v" for number in range(200)),
    "big=" + "x" * 16_000,
    "; ".join(["daegi_p_0123456789=p~sale~1~1~9~aaaa"] * 40),
    "\xed\x95\x9c=\xea\xb8\x80; \xff\xfe",
    "=; ;; ==;",
    '"daegi_p_0123456789"="1"',
]


def ask(
    site: Site, target: str = "/checkout", *, cookie: str = "", headers: Headers = NAVIGATION, **how: object
) -> httpx.Response:
    """A request that has to be answered."""
    answer = send(site.port, target, headers=[*headers, *([("Cookie", cookie)] if cookie else [])], **how)  # type: ignore[arg-type]
    assert answer is not None
    return answer


def told_by_daegi(request: Reached) -> dict[str, str]:
    """The headers of the gate as they reached the site, however they are spelled."""
    return {name: value for name, value in request.headers if "daegi" in name}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: ascii(target)[1:40])
def test_no_spelling_of_a_path_walks_around_the_gate(site: Site, target: str) -> None:
    send(site.port, target, headers=NAVIGATION)

    assert site.shop.reached == []


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: ascii(target)[1:40])
def test_every_spelling_reaches_the_site_as_it_is_or_not_at_all(site: Site, target: str) -> None:
    send(site.port, target, headers=[*NAVIGATION, ("Cookie", site.cookie())])

    for request in site.shop.reached:
        # Where it got through, the gate was asked: the open part alone has no ticket.
        assert request.values("x-daegi-ticket") == [TICKET]


@pytest.mark.parametrize("method", METHODS, ids=ascii)
def test_no_method_walks_around_the_gate(site: Site, method: str) -> None:
    send(site.port, method=method)
    send(site.port, method=method, headers=NAVIGATION)
    send(site.port, method=method, body=b"x=1")

    assert site.shop.reached == []


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_of_a_visitor_steers_the_gate_or_reaches_the_site(site: Site, name: str) -> None:
    told = [*NAVIGATION, (name, HEADERS[name]), (name, HEADERS[name])]

    refused = ask(site, headers=told)
    assert refused.status_code == 302
    assert refused.headers["location"] == "/waiting-room/sale?next=/checkout"
    assert site.shop.reached == []

    assert ask(site, headers=told, cookie=site.cookie()).status_code == 200
    (request,) = site.shop.reached
    assert WRITTEN not in str(request.headers)
    assert told_by_daegi(request).keys() == {"x-daegi-ticket", "x-daegi-event", "x-daegi-entered"}
    assert request.values("x-daegi-ticket") == [TICKET]


def test_the_method_that_counts_is_the_visitors_own(site: Site) -> None:
    lie = [*NAVIGATION, ("X-Forwarded-Method", "OPTIONS"), ("Access-Control-Request-Method", "GET")]

    assert ask(site, headers=lie).status_code == 302
    assert site.shop.reached == []


@pytest.mark.parametrize(
    "host", ["other.example", "shop.example:1", "SHOP.EXAMPLE", "shop.example.", "127.0.0.1", "a" * 300]
)
def test_no_host_walks_around_the_gate(site: Site, host: str) -> None:
    send(site.port, headers=NAVIGATION, host=host)

    assert site.shop.reached == []


@pytest.mark.parametrize("cookie", STRANGE_COOKIES, ids=lambda cookie: ascii(cookie)[1:30])
def test_no_cookie_but_a_pass_lets_anybody_in(site: Site, cookie: str) -> None:
    send(site.port, headers=[*NAVIGATION, ("Cookie", cookie)])

    assert site.shop.reached == []


@pytest.mark.parametrize(
    "cookie", [one for one in STRANGE_COOKIES if len(one) < 3_000], ids=lambda cookie: ascii(cookie)[1:30]
)
@pytest.mark.parametrize("before", [True, False])
def test_a_pass_counts_whatever_cookies_stand_beside_it(site: Site, cookie: str, before: bool) -> None:
    both = f"{site.cookie()}; {cookie}" if before else f"{cookie}; {site.cookie()}"

    assert ask(site, cookie=both).status_code == 200
    # The site's own cookies are none of the gate's business.
    assert site.shop.reached[0].values("cookie") == [both.strip()]


def test_a_pass_among_several_of_ours_counts_beside_one_that_is_not_ascii(site: Site) -> None:
    others = "; ".join(f"daegi_w_{number:010x}=w~1" for number in range(6))

    assert ask(site, cookie=f"name=\xed\x95\x9c; {others}; {site.cookie()}; last=\xff").status_code == 200


@pytest.mark.parametrize("change", ["forged", "foreign", "old"])
def test_a_pass_that_is_not_good_is_none(site: Site, change: str) -> None:
    cookie = {
        "forged": site.cookie()[:-1] + ("A" if site.cookie()[-1] != "A" else "B"),
        "foreign": site.cookie(event="other"),
        "old": site.cookie(seconds=-60),
    }[change]

    assert ask(site, cookie=cookie).status_code == 302
    assert site.shop.reached == []


def test_a_script_is_told_to_wait_in_its_own_words(site: Site) -> None:
    answer = ask(site, "/checkout/api?x=1", headers=[("Accept", "application/json"), ("Sec-Fetch-Mode", "cors")])

    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert error["code"] == "WAITING_ROOM"
    assert error["room"] == "/waiting-room/sale?next=/checkout/api%3Fx%3D1"
    assert error["trace_id"]


def test_a_form_is_told_to_wait_on_a_page(site: Site) -> None:
    headers = [*NAVIGATION, ("Content-Type", "application/x-www-form-urlencoded")]

    answer = ask(site, "/buy", method="POST", headers=headers, body=b"shoe=1")

    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"].startswith("text/html")
    assert "/waiting-room/sale?next=/buy" in answer.text
    assert site.shop.reached == []


def test_a_page_that_is_fetched_ahead_is_not_led_to_the_room(site: Site) -> None:
    answer = ask(site, headers=[*NAVIGATION, ("Sec-Purpose", "prefetch;prerender")])

    assert answer.status_code == 429
    assert site.shop.reached == []


def test_a_head_request_is_answered_without_a_body(site: Site) -> None:
    assert ask(site, method="HEAD").status_code == 429
    assert site.shop.reached == []

    answer = ask(site, method="HEAD", cookie=site.cookie())

    assert (answer.status_code, answer.content) == (200, b"")
    assert [request.method for request in site.shop.reached] == ["HEAD"]


def test_a_preflight_is_the_sites_to_answer(site: Site) -> None:
    headers = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "PUT")]

    assert ask(site, method="OPTIONS", headers=headers).headers["x-shop"] == "yes"
    (request,) = site.shop.reached
    assert request.method == "OPTIONS"
    assert told_by_daegi(request) == {}


def test_options_that_are_no_preflight_need_a_pass(site: Site) -> None:
    assert ask(site, method="OPTIONS").status_code == 429
    assert site.shop.reached == []


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_big_body_arrives_whole_once_its_sender_is_let_in(site: Site, coding: str) -> None:
    content = bytes(range(256)) * 3_500
    body, headers = content, list(NAVIGATION)
    if coding == "chunked":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        headers.append(("Transfer-Encoding", "chunked"))

    answer = send(site.port, "/upload", method="POST", headers=headers, body=body)
    assert answer is None or answer.status_code == 429
    assert site.shop.reached == []

    assert ask(site, "/upload", method="POST", headers=headers, body=body, cookie=site.cookie()).status_code == 200
    assert site.shop.reached[0].body == content


def test_a_websocket_needs_a_pass_and_works_with_one(site: Site) -> None:
    assert upgrade(site.port, [])[0] == 429
    assert site.shop.reached == []

    assert upgrade(site.port, [("Cookie", site.cookie())]) == (101, b"hello")
    assert site.shop.reached[0].target == "/live"


def test_a_renewed_pass_reaches_the_visitor_beside_the_sites_cookies(site: Site) -> None:
    answer = ask(site, cookie=site.cookie(seconds=100, ticket=1_790_000_000_000_777))

    assert answer.status_code == 200
    cookies = answer.headers.get_list("set-cookie")
    assert "cart=1" in cookies
    (renewed,) = (cookie for cookie in cookies if cookie.startswith("daegi_p_"))
    assert "HttpOnly" in renewed
    # What the site is told is the same as without a renewal.
    told = told_by_daegi(site.shop.reached[0])
    assert told.keys() == {"x-daegi-ticket", "x-daegi-event", "x-daegi-entered"}
    assert told["x-daegi-ticket"] == "1790000000000777"

    site.shop.reached.clear()
    again = ask(site, cookie=renewed.partition(";")[0])
    assert again.status_code == 200
    assert again.headers.get_list("set-cookie") == ["cart=1"]


def test_what_is_open_needs_no_pass(site: Site) -> None:
    assert ask(site, "/assets/css/shop-1.min.css?v=2").status_code == 200
    assert [request.target for request in site.shop.reached] == ["/assets/css/shop-1.min.css?v=2"]


def test_what_is_open_arrives_as_the_proxy_has_understood_it(site: Site) -> None:
    for target in ("/assets/css/../shop-1.css?v=2", "/checkout/../assets/a.css"):
        assert ask(site, target).status_code == (200 if site.proxy.tidies else 302)
    arrived = ["/assets/shop-1.css?v=2", "/assets/a.css"]
    assert [request.target for request in site.shop.reached] == (arrived if site.proxy.tidies else [])


@pytest.mark.parametrize("name", HEADERS)
def test_what_is_open_is_told_nothing_that_a_visitor_wrote(site: Site, name: str) -> None:
    assert ask(site, "/assets/a.css", headers=[(name, HEADERS[name])]).status_code == 200
    assert WRITTEN not in str(site.shop.reached[0].headers)


def test_the_room_is_part_of_the_site(site: Site) -> None:
    first = ask(site, "/waiting-room/sale?next=/checkout")
    assert first.status_code == 303
    probe = first.headers["set-cookie"].partition(";")[0]

    page = ask(site, first.headers["location"], cookie=probe)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert site.shop.reached == []


def test_a_join_comes_from_the_site_itself_whatever_its_port(site: Site) -> None:
    host = f"shop.example:{site.port}"
    headers = [("Accept", "application/json"), ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]

    joined = ask(site, "/waiting-room/sale/join?next=/checkout", method="POST", headers=headers, host=host)
    assert joined.status_code in {200, 202}, joined.text
    assert joined.headers["set-cookie"].startswith("daegi_w_")

    foreign = [
        ("Accept", "application/json"),
        ("Origin", "https://other.example"),
        ("X-Forwarded-Host", "other.example"),
    ]
    refused = ask(site, "/waiting-room/sale/join?next=/checkout", method="POST", headers=foreign)
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("target", "after"),
    [("/checkout?" + "a" * 6_000, "/checkout"), ("/" + "a" * 3_000, "/home"), ("/a?" + "%22" * 300, None)],
    ids=["query", "path", "encoded"],
)
def test_an_address_that_is_long_leads_to_the_room_and_not_into_a_proxys_buffer(
    site: Site, target: str, after: str | None
) -> None:
    answer = ask(site, target)

    assert answer.status_code == 302
    assert answer.headers["location"] == f"/waiting-room/sale?next={after or quote(target, safe='/')}"
    assert ask(site, target, headers=[("Accept", "application/json")]).status_code == 429


@pytest.mark.parametrize("inside", ["metrics", "docs", "readyz", "api/v1/admin/events", "api/v1/queue/status"])
@pytest.mark.parametrize(
    "way",
    [
        "/",
        "/waiting-room/../",
        "/waiting-room/..%2f",
        "/waiting-room/%2e%2e/",
        "/waiting-room/..;/",
        "/waiting-room/..%5c",
        "/waiting-room//",
        "/waiting-room/-/../../",
        "/waiting-room/sale/..%2f..%2f",
        "/waiting-room/..%252f",
    ],
)
def test_nothing_of_daegi_but_the_room_can_be_reached(site: Site, way: str, inside: str) -> None:
    for headers in (NAVIGATION, [("Accept", "application/json")]):
        answer = ask(site, way + inside, headers=headers)
        assert answer.status_code in {302, 400, 404, 429}
        assert "daegi_" not in answer.text
        assert "UNAUTHORIZED" not in answer.text
        assert "MISSING_TOKEN" not in answer.text
    assert site.shop.reached == []


def test_a_room_that_does_not_exist_is_said_by_daegi(site: Site) -> None:
    answer = ask(site, "/waiting-room/no-such-event")

    assert answer.status_code == 404
    assert site.shop.reached == []


def test_a_visitor_comes_in_by_way_of_the_room(kind: type[Proxy], gate: Api, shop: Upstream) -> None:
    declare(gate, "calm", rate=100, burst=100)
    with kind(gate=gate.port, shop=shop.port, event="calm") as proxy:
        site = new_site(proxy, shop)
        with httpx.Client(headers=dict(NAVIGATION), follow_redirects=True, trust_env=False) as browser:
            answer = browser.get(f"http://{LOCALHOST}:{site.port}/checkout?size=4")

    assert answer.status_code == 200
    assert answer.headers["x-shop"] == "yes"
    assert [step.headers["location"].partition("?")[0] for step in answer.history] == [
        "/waiting-room/calm",
        "/waiting-room/calm",
        "/checkout",
    ]
    assert [request.target for request in shop.reached] == ["/checkout?size=4"]
