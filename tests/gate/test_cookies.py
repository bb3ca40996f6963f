"""How cookies are written and read: on which hosts, over which connections, how many."""

import pytest

from api.gate.cookies import MOST_VALUES, Cookies, cookie_name
from tests.gate.test_asked import asked_by

HTTPS = ("X-Forwarded-Proto", "https")
PASS = cookie_name("p", "concert")


@pytest.mark.parametrize(
    ("secure", "domain", "headers", "expected"),
    [
        (None, None, [], f"{PASS}=x; Path=/; HttpOnly; SameSite=Lax"),
        (None, None, [HTTPS], f"__Host-{PASS}=x; Path=/; HttpOnly; SameSite=Lax; Secure"),
        (
            None,
            None,
            [("X-Forwarded-Proto", " HTTPS, http")],
            f"__Host-{PASS}=x; Path=/; HttpOnly; SameSite=Lax; Secure",
        ),
        (None, None, [("X-Forwarded-Proto", "http, https")], f"{PASS}=x; Path=/; HttpOnly; SameSite=Lax"),
        (True, None, [], f"__Host-{PASS}=x; Path=/; HttpOnly; SameSite=Lax; Secure"),
        (False, None, [HTTPS], f"{PASS}=x; Path=/; HttpOnly; SameSite=Lax"),
        (None, "shop.example", [HTTPS], f"{PASS}=x; Path=/; HttpOnly; SameSite=Lax; Secure; Domain=shop.example"),
        (None, "shop.example", [], f"{PASS}=x; Path=/; HttpOnly; SameSite=Lax; Domain=shop.example"),
    ],
)
def test_a_cookie_is_of_one_host_and_of_https_where_that_is_known(
    secure: bool | None, domain: str | None, headers: list[tuple[str, str]], expected: str
) -> None:
    cookies, request = Cookies(secure=secure, domain=domain), asked_by(headers)
    assert cookies.set_pass(request, "concert", "x") == ("set-cookie", expected)
    # It reads what it writes.
    written = expected.partition(";")[0]
    assert cookies.passes(asked_by([*headers, ("Cookie", written)]), "concert") == ["x"]


def test_what_is_forgotten_was_set_in_the_same_way() -> None:
    cookies = Cookies(secure=None, domain="shop.example")
    for forget in (cookies.forget_pass, cookies.forget_waiting):
        _, cookie = forget(asked_by([HTTPS]), "concert")
        assert set(cookie.split("; ")[1:]) >= {"Path=/", "Max-Age=0", "Domain=shop.example", "Secure", "HttpOnly"}


def test_names_tell_events_and_kinds_apart() -> None:
    names = {cookie_name(kind, event) for kind in ("p", "v", "w") for event in ("a", "A", "a.", "a:b")}
    assert len(names) == 12
    cookies = Cookies(secure=None, domain=None)
    sent = asked_by([("Cookie", "; ".join(f"{name}={name}" for name in names))])
    assert cookies.passes(sent, "a") == [cookie_name("p", "a")]
    assert cookies.waiting(sent, "A") == [cookie_name("w", "A")]


def test_at_most_so_many_of_a_name_are_looked_at_in_one_header_or_in_many() -> None:
    cookies, sent = Cookies(secure=None, domain=None), [f"{PASS}={number}" for number in range(100)]
    for headers in ([("Cookie", "; ".join(sent))], [("Cookie", one) for one in sent]):
        assert cookies.passes(asked_by(headers), "concert") == [str(number) for number in range(MOST_VALUES)]


@pytest.mark.parametrize(
    "header", ["", ";", "=", "a", f"{PASS}", f"{PASS}x=1", f"x{PASS}=1", f"{PASS.upper()}=1", f'"{PASS}"=1']
)
def test_what_looks_like_it_is_none(header: str) -> None:
    assert Cookies(secure=None, domain=None).passes(asked_by([("Cookie", header)]), "concert") == []


def test_a_probe_of_odd_length_is_none() -> None:
    cookies, name = Cookies(secure=None, domain=None), cookie_name("v", "concert")
    assert cookies.probe(asked_by([("Cookie", f"{name}=x")]), "concert") == "x"
    assert cookies.probe(asked_by([("Cookie", f"{name}={'x' * 65}")]), "concert") is None
