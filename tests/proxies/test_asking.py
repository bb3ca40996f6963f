"""What a proxy asks the gate: where visitors go and what their cookies are, in its own words, and nothing else."""

from collections.abc import Iterator

import pytest

from tests.proxies.conftest import EVENT
from tests.proxies.proxy import Proxy
from tests.proxies.raw import NAVIGATION, send, upgrade
from tests.proxies.upstream import Reached, Upstream

OURS = "daegi_p_0123456789=p~1"
NOT_ITS_OWN = ("x-original-url", "x-rewrite-url", "x-daegi-ticket", "x-daegi-event", "x-daegi-mode", "forwarded")


@pytest.fixture(scope="session")
def listener() -> Iterator[Upstream]:
    """A gate that lets everybody through, and keeps what it was asked."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def asking(kind: type[Proxy], listener: Upstream, shop: Upstream) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with kind(gate=listener.port, shop=shop.port, event=EVENT) as running:
        yield running


@pytest.fixture
def asked(listener: Upstream) -> list[Reached]:
    """What the gate was asked since the test began."""
    listener.reached.clear()
    return listener.reached


def test_it_is_told_the_url_and_the_method_and_asked_without_a_query(asking: Proxy, asked: list[Reached]) -> None:
    send(
        asking.port, "/a%2fb/c?event=other&x=%20", method="DELETE", headers=[("Cookie", OURS), ("Accept", "text/html")]
    )

    (request,) = asked
    assert request.method == "GET"
    assert request.target.rstrip("?") == f"/api/v1/gate/{EVENT}/{asking.dialect}/authorize"
    uri = "x-original-uri" if asking.dialect == "nginx" else "x-forwarded-uri"
    assert request.values(uri) == ["/a%2fb/c?event=other&x=%20"]
    assert request.values("x-forwarded-method") == ["DELETE"]
    assert request.values("cookie") == [OURS]
    assert request.values("accept") == ["text/html"]


def test_it_is_told_nothing_in_its_words_that_a_visitor_wrote(asking: Proxy, asked: list[Reached]) -> None:
    names = ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Proto")
    told = [(name, "/written") for name in (*names, *NOT_ITS_OWN)]

    send(asking.port, headers=[*NAVIGATION, *told, *told])

    (request,) = asked
    assert "/written" not in str(request.headers)
    assert not [name for name, _ in request.headers if name in NOT_ITS_OWN]
    if asking.dialect == "nginx":
        assert request.values("x-original-uri") == ["/checkout"]
        assert not request.values("x-forwarded-uri")
    else:
        assert request.values("x-forwarded-uri") == ["/checkout"]
        assert not request.values("x-original-uri")


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_it_is_sent_no_body(asking: Proxy, asked: list[Reached], shop: Upstream, coding: str) -> None:
    body, headers = b"x" * 100_000, []
    if coding == "chunked":
        body, headers = b"186a0\r\n%s\r\n0\r\n\r\n" % body, [("Transfer-Encoding", "chunked")]
    shop.reached.clear()

    send(asking.port, method="POST", headers=headers, body=body)

    (request,) = asked
    assert request.body == b""
    assert request.values("content-length") in ([], ["0"])
    assert not request.values("transfer-encoding")
    assert [len(through.body) for through in shop.reached] == [100_000]


def test_it_is_not_asked_for_a_websocket(asking: Proxy, asked: list[Reached]) -> None:
    assert upgrade(asking.port, [])[0] == 101

    (request,) = asked
    assert not request.values("upgrade")


def test_it_can_read_every_cookie_of_ours(asking: Proxy, asked: list[Reached]) -> None:
    ours = [*(f"daegi_w_{number:010x}=w~{number}" for number in range(7)), "__Host-daegi_p_0123456789=p~1"]
    foreign = "name=\xed\x95\x9c"

    send(asking.port, headers=[("Cookie", "; ".join((foreign, *ours[:-1], foreign, ours[-1])))])

    (cookies,) = asked[0].values("cookie")
    assert cookies.isascii()
    assert set(ours) <= set(cookies.split("; "))


def test_visitors_cannot_ask_it_themselves(asking: Proxy, asked: list[Reached]) -> None:
    for target in ("/_daegi", "/_daegi?x=1", f"/api/v1/gate/{EVENT}/{asking.dialect}/authorize"):
        send(asking.port, target)

    # Asked about these paths by the proxy, perhaps, but never handed them.
    uris = [request.values("x-original-uri") or request.values("x-forwarded-uri") for request in asked]
    assert [] not in uris
    assert f"/api/v1/gate/{EVENT}/{asking.dialect}/authorize" in [uri for (uri,) in uris]
    assert "/_daegi" not in [uri for (uri,) in uris] or asking.dialect != "nginx"
