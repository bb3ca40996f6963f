"""What visitors see of a guarded site while the gate, its Redis or the site itself cannot be reached."""

import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.proxies.conftest import EVENT, Site, declare, new_site
from tests.proxies.proxy import Proxy
from tests.proxies.raw import NAVIGATION, send
from tests.proxies.upstream import Upstream
from tests.support.ports import free_port
from tests.support.processes import Api


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """One that is killed."""
    with RedisServer() as server:
        yield server


def test_without_the_gate_the_proxy_says_so_on_a_page_of_its_own(kind: type[Proxy], shop: Upstream) -> None:
    with kind(gate=free_port(), shop=shop.port, event=EVENT) as proxy:
        site = new_site(proxy, shop)

        for cookie in ("", site.cookie()):
            assert_away(site, "/checkout", cookie)
        assert_away(site, "/waiting-room/sale?next=/checkout", "")
        assert shop.reached == []
        answer = send(site.port, "/assets/a.css")
        assert answer is not None
        assert answer.status_code == 200


def test_what_stands_in_for_the_page_of_the_room_reloads_as_the_page_does(kind: type[Proxy], shop: Upstream) -> None:
    with kind(gate=free_port(), shop=shop.port, event=EVENT) as proxy:
        site = new_site(proxy, shop)

        assert reloads(site, "/waiting-room/sale?next=/checkout") == "10"
        # A form would not be sent again, and what it was sent to has no page.
        assert reloads(site, "/waiting-room/sale/join", method="POST") is None
        assert reloads(site, "/checkout") is None


def test_the_room_tells_of_its_own_trouble_and_reloads_by_itself(
    kind: type[Proxy], own_redis: RedisServer, shop: Upstream
) -> None:
    with Api(own_redis.url) as gate, kind(gate=gate.port, shop=shop.port, event=EVENT) as proxy:
        declare(gate)
        site = new_site(proxy, shop)
        own_redis.kill()
        until(lambda: status(site, "") == 503)

        answer = send(site.port, "/waiting-room/sale?next=/checkout", headers=NAVIGATION)
        assert answer is not None
        assert answer.status_code == 503
        assert 'http-equiv="refresh"' in answer.text
        assert "refresh" not in answer.headers


def test_a_gate_that_talks_nonsense_lets_nobody_through(
    kind: type[Proxy], own_redis: RedisServer, shop: Upstream
) -> None:
    port = int(own_redis.url.rpartition(":")[2].partition("/")[0])
    with kind(gate=port, shop=shop.port, event=EVENT) as proxy:
        site = new_site(proxy, shop)

        assert_away(site, "/checkout", site.cookie())
        assert shop.reached == []


class Nonsense(socketserver.BaseRequestHandler):
    """Reads a request, and says what is no HTTP to the end: some take that for HTTP/0.9, whose answers are all good."""

    def handle(self) -> None:
        self.request.recv(65_536)
        self.request.sendall(b"welcome, whoever you are\r\n")


def test_a_gate_that_speaks_no_http_lets_nobody_through(kind: type[Proxy], shop: Upstream) -> None:
    with socketserver.ThreadingTCPServer((LOCALHOST, 0), Nonsense) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            with kind(gate=server.server_address[1], shop=shop.port, event=EVENT) as proxy:
                site = new_site(proxy, shop)

                for cookie in ("", site.cookie()):
                    assert_away(site, "/checkout", cookie)
                assert shop.reached == []
        finally:
            server.shutdown()
            serving.join()


def test_a_site_that_cannot_be_reached_is_no_reason_to_wait(kind: type[Proxy], gate: Api, shop: Upstream) -> None:
    with kind(gate=gate.port, shop=free_port(), event=EVENT) as proxy:
        site = new_site(proxy, shop)

        assert_away(site, "/checkout", site.cookie())


def test_without_redis_passes_go_on_and_nobody_else_is_let_through(
    kind: type[Proxy], own_redis: RedisServer, shop: Upstream
) -> None:
    with Api(own_redis.url) as gate, kind(gate=gate.port, shop=shop.port, event=EVENT) as proxy:
        declare(gate)
        site = new_site(proxy, shop)
        assert status(site, site.cookie()) == 200

        own_redis.kill()
        until(lambda: status(site, "") == 503)
        assert_away(site, "/checkout", "")
        shop.reached.clear()

        assert status(site, "") == 503
        assert shop.reached == []
        assert status(site, site.cookie()) == 200
        assert [request.values("x-daegi-mode") for request in shop.reached] == [[]]


def test_an_event_that_stays_open_without_redis_lets_people_through_and_marks_them(
    kind: type[Proxy], own_redis: RedisServer, shop: Upstream
) -> None:
    with Api(own_redis.url) as gate, kind(gate=gate.port, shop=shop.port, event=EVENT) as proxy:
        declare(gate, on_outage="open")
        site = new_site(proxy, shop)
        assert status(site, "") == 302

        own_redis.kill()
        until(lambda: status(site, "") == 200)

        assert {name: value for name, value in shop.reached[-1].headers if "daegi" in name} == {"x-daegi-mode": "open"}


def assert_away(site: Site, target: str, cookie: str) -> None:
    """The proxy's own page of an outage."""
    answer = send(site.port, target, headers=[*NAVIGATION, ("Cookie", cookie)])
    assert answer is not None
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "your place is safe" in answer.text


def reloads(site: Site, target: str, method: str = "GET") -> str | None:
    """After how many seconds the browser of somebody who meets an outage loads the page again."""
    answer = send(site.port, target, method=method, headers=NAVIGATION)
    assert answer is not None
    assert answer.status_code == 503
    refresh: str | None = answer.headers.get("refresh")
    return refresh


def status(site: Site, cookie: str) -> int:
    """What a visitor's request for a page is answered with."""
    answer = send(site.port, headers=[*NAVIGATION, ("Cookie", cookie)])
    assert answer is not None
    return answer.status_code


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for what comes true sooner or later."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"it did not come true within {seconds} s"
        time.sleep(0.05)
