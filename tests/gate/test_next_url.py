"""Where a visitor may be sent after the room: never to another host, whatever a browser makes of the URL."""

import ada_url
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.serving.next_url import as_location, is_origin, is_safe, with_parameter, without_parameter

SHOP = "https://shop.example"
TARGETS = ("https://pay.example", "https://tickets.example:8443")

PATHS = (
    "/", "/checkout", "/checkout?step=2&x=%2F%2Fevil", "/a/../b", "/a//b", "/a?next=//evil.example", "/%20", "/~ann",
    "/caf%C3%A9", "/a;b", "/waiting-rooms", "/x/waiting-room/concert", "/a/b/..", "/a#//evil",
)  # fmt: skip
ELSEWHERE = (
    "", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/%5Cevil.example",
    "/.//evil.example", "/x/..//evil.example", "/%2e//evil.example", "/x/%2e%2e//evil.example", "/\tevil",
    "/\t/evil", "/\n/evil", "/%0a/evil", "/%09/evil.example", "https:evil.example", "https:/evil.example",
    "https:///evil.example", "evil.example", "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x",
    "http://pay.example", "https://pay.example:444", "https://pay.example.evil.example",
    "https://pay.example@evil.example", "https://evil.example@pay.example", "https://user:pw@pay.example/",
    "https://pay.example\\@evil.example", "https://evil.example/https://pay.example", "https://PAY.example.",
    "//pay.example", "/waiting-room/", "/waiting-room/concert", "/Waiting-Room/concert", "/waiting-room",
    "/x/../waiting-room/concert", "/%77aiting-room/concert", "/./waiting-room/x", " /checkout", "/ x", "/x\x00",
    "/%00", "https://[::1", "https://pay.example:x", "ftp://pay.example",
)  # fmt: skip


@pytest.mark.parametrize("url", PATHS)
def test_a_path_of_the_site_is_fine(url: str) -> None:
    assert is_safe(url, ())
    assert ada_url.URL(url, base=SHOP).host == "shop.example"


@pytest.mark.parametrize("url", ["https://pay.example", "https://pay.example:443/x?y", "HTTPS://Tickets.example:8443/"])
def test_so_is_an_origin_that_was_named(url: str) -> None:
    assert is_safe(url, TARGETS)
    assert not is_safe(url, ())


@pytest.mark.parametrize("url", ELSEWHERE)
def test_nowhere_else(url: str) -> None:
    assert not is_safe(url, TARGETS)


PIECES = (
    "/", "\\", ".", "..", "%2e", "%2f", "%5c", "%09", "\t", "evil.example", "a", ":", "@", "?", "#", "https:",
    "waiting-room", "//", ";", " ", "%00", "[", "x",
)  # fmt: skip
NO_ORIGINS = (
    "", "shop.example", "https://", "https://shop.example/path", "https://a@shop.example", "https://shop.example?x",
    "https://*.example ", "ftp://shop.example", "https://x:0x1", "https://쇼핑.example",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20))
@example("/.//evil.example")
@example("/.//.")
@example("/.//x/..")
@settings(max_examples=2000)
def test_what_is_taken_for_a_path_stays_on_the_host_in_a_browser(url: str) -> None:
    if is_safe(url, ()):
        landed = ada_url.URL(url, base=f"{SHOP}/waiting-room/concert")
        assert (landed.protocol, landed.host) == ("https:", "shop.example")
        assert not landed.pathname.startswith("//")
        assert not landed.pathname.lower().startswith("/waiting-room/")


MORE_PIECES = (
    *PIECES, "https://", "https://pay.example", "tickets.example", ":8443", ":443", ":0",
    "\u3002", "\uff05", "\uff0f", "\u2028", "\xa0",
    "%40", "%23", "%3a", "HTTPS", "xn--", "&#47;", "[::1]", "pay.example",
)  # fmt: skip


@given(st.lists(st.sampled_from(MORE_PIECES), max_size=7).map("".join))
@example("https://pay.example:0/")
@example("https://pay.example\uff0f@evil.example")
@example("https://pay.example\u3002evil.example")
@settings(max_examples=3000)
def test_what_is_taken_for_a_target_is_one_in_a_browser_as_python_writes_it_too(url: str) -> None:
    if is_safe(url, TARGETS):
        for sent in (url, as_location(url)):
            landed = ada_url.URL(sent, base=f"{SHOP}/waiting-room/concert")
            assert landed.origin in {SHOP, *TARGETS}
            assert (landed.username, landed.password) == ("", "")


@pytest.mark.parametrize("text", ["https://shop.example", "http://shop.example:8080", "https://[2001:db8::1]:8443"])
def test_an_origin_is_a_scheme_a_host_and_perhaps_a_port(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize("text", NO_ORIGINS)
def test_nothing_else_is_one(text: str) -> None:
    assert not is_origin(text)


@pytest.mark.parametrize(
    ("url", "with_it"),
    [
        ("https://a.example", "https://a.example?t=1"),
        ("https://a.example/x?", "https://a.example/x?t=1"),
        ("https://a.example/x?a=%2f&b", "https://a.example/x?a=%2f&b&t=1"),
        ("https://a.example/x#top?t=2", "https://a.example/x?t=1#top?t=2"),
        ("https://a.example/x?t=3&a&&T&", "https://a.example/x?a&&&t=1"),
        ("/x?a#", "/x?a&t=1#"),
    ],
)
def test_a_parameter_stands_at_the_end_of_the_query(url: str, with_it: str) -> None:
    assert with_parameter(url, "t", "1") == with_it


@pytest.mark.parametrize(
    ("url", "without_it"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("https://a.example/x?", "https://a.example/x?"),
        ("https://a.example/x?t", "https://a.example/x"),
        ("https://a.example/x?t=1&a=%2f&T=2&%74=3&&b#t=4", "https://a.example/x?a=%2f&&b#t=4"),
        ("/t=1?tt=1&at=2", "/t=1?tt=1&at=2"),
    ],
)
def test_a_parameter_can_be_taken_out_however_it_is_spelled(url: str, without_it: str) -> None:
    assert without_parameter(url, "t") == without_it


@given(st.text(st.sampled_from("aAt=&?#%7/"), max_size=20))
def test_what_was_put_in_can_be_taken_out_again(tail: str) -> None:
    bare = without_parameter(f"https://a.example/{tail}", "t")
    assert without_parameter(bare, "t") == bare
    assert without_parameter(with_parameter(bare, "t", "1"), "t") in {bare, bare.replace("?", "", 1)}
    assert "t=1" in with_parameter(bare, "t", "1").partition("#")[0]
