"""A site with Queue-it's public JavaScript connector uses Daegi: the real connector under Node, a real api."""

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.connector import ConnectorTokens
from tests.room.test_visits import CLOSED, act, state_of
from tests.sites.conftest import Declare, NewVisitor
from tests.support.connector_site import CUSTOMER, SECRET, Browser, missing, running_site
from tests.support.processes import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

CONNECTED = {
    "connector_secret": SECRET,
    "connector_customer": CUSTOMER,
    "trusted_address_header": "X-Forwarded-For",
}
OPEN = {"rate": 10, "burst": 10}
MINUTE = 60
NOBODY = "00000000-0000-8000-8000-000000000000"

NewBrowser = Callable[..., Browser]


@pytest.fixture(scope="module")
def site_api(redis_server: RedisServer) -> Iterator[Api]:
    with Api(redis_server.url, **CONNECTED) as api:
        yield api


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with running_site() as origin:
        yield origin


def queue_domain(api: Api) -> str:
    return f"{api.url.removeprefix('http://')}/waiting-room/-/q"


@pytest.fixture
def new_browser(new_visitor: NewVisitor, site_api: Api, event: str) -> NewBrowser:
    def make(**site: object) -> Browser:
        ours = {"event": event, "queueDomain": queue_domain(site_api), "customer": CUSTOMER, "secret": SECRET}
        return Browser(new_visitor(), **{**ours, **site})

    return make


def paths(urls: list[str]) -> list[str]:
    """The URLs without their hosts and queries."""
    return ["/" + url.split("/", 3)[3].partition("?")[0] for url in urls]


async def test_a_visitor_is_queued_and_accepted_and_not_asked_again(
    declare: Declare, new_browser: NewBrowser, site: str, event: str
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser()
    url = f"{site}/cart/pay?size=4%2F5&say=a+b%20c&&empty=&t=https%3A%2F%2Felse.example&%C3%A9=%25"
    urls, answer = await browser.go(url)
    room = f"/waiting-room/{event}"
    assert paths(urls) == ["/cart/pay", "/waiting-room/-/q/", room, room, "/cart/pay", "/cart/pay"]
    # Byte for byte, once the connector has taken its token out again.
    assert urls[-2].startswith(f"{url}&queueittoken=")
    assert (urls[-1], answer.status_code) == (url, 200)
    assert f"QueueITAccepted-SDFrts345E-V3_{event}" in browser.visitor.cookies
    for page in ("/cart", "/"):
        assert len((await browser.go(site + page)).urls) == 1
    assert (await declare())["totals"]["admitted"] == 1


async def test_the_path_may_stand_beside_the_domain(
    declare: Declare, new_browser: NewBrowser, site_api: Api, site: str
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser(queueDomain=site_api.url.removeprefix("http://"), queuePath="/waiting-room/-/q")
    urls, answer = await browser.go(f"{site}/shop")
    assert (paths(urls)[1], answer.text) == ("/waiting-room/-/q/", "inside /shop")


async def test_who_waited_is_accepted_when_it_is_their_turn(
    declare: Declare, new_browser: NewBrowser, site: str, event: str
) -> None:
    await declare(**CLOSED, targets=[site])
    browser = new_browser()
    urls, page = await browser.go(f"{site}/shop")
    assert (page.status_code, state_of(page)) == (200, "join")
    after = quote(f"{site}/shop", safe="")
    assert (await act(browser.visitor, event, "join", after)).status_code == 202
    assert state_of((await browser.go(f"{site}/shop")).answer) != "join"
    await declare(**OPEN)

    async def enter() -> str | None:
        entered = await act(browser.visitor, event, "enter", after)
        return entered.json().get("location")

    urls, answer = await browser.go(await eventually(enter))
    assert (urls[-1], answer.text) == (f"{site}/shop", "inside /shop")
    assert len(urls) == 2


async def test_a_site_with_another_secret_is_told_and_nobody_goes_in_circles(
    declare: Declare, new_browser: NewBrowser, site: str
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser(secret="the secret that the site had before")
    urls, page = await browser.go(f"{site}/shop")
    assert (page.status_code, state_of(page)) == (403, "refused_hash")
    assert paths(urls)[-1] == "/waiting-room/-/q/error/hash/"
    assert len(urls) == 6
    assert "~h_" not in page.text


async def test_who_comes_with_an_old_token_is_sent_for_another_by_itself(
    declare: Declare, new_browser: NewBrowser, site: str, event: str
) -> None:
    await declare(**OPEN, targets=[site])
    bookmarked = ConnectorTokens(SECRET).sign(event, NOBODY, valid_until=1, minutes=5, address=None)
    urls, answer = await new_browser().go(f"{site}/shop?a=1&queueittoken={bookmarked}")
    assert paths(urls)[1] == "/waiting-room/-/q/error/timestamp/"
    assert (urls[-1], answer.status_code) == (f"{site}/shop?a=1", 200)


@pytest.mark.parametrize("ahead", [3 * MINUTE, 3000 * MINUTE])
async def test_a_site_whose_clock_is_wrong_is_tried_twice_and_told(
    declare: Declare, new_browser: NewBrowser, site: str, ahead: int
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser(ahead=ahead)
    urls, page = await browser.go(f"{site}/shop")
    assert (page.status_code, state_of(page)) == (403, "refused_time")
    assert paths(urls).count("/waiting-room/-/q/error/timestamp/") == 2
    assert paths(urls).count("/shop") == 3
    # Its button tries again, and ends here again.
    urls, page = await browser.go(f"{site}/shop")
    assert state_of(page) == "refused_time"
    assert paths(urls).count("/waiting-room/-/q/error/timestamp/") == 1


async def test_a_site_of_another_customer_is_turned_away(declare: Declare, new_browser: NewBrowser, site: str) -> None:
    await declare(**OPEN, targets=[site])
    urls, page = await new_browser(customer="somebody-else").go(f"{site}/shop")
    assert (page.status_code, state_of(page), len(urls)) == (404, "unknown_site", 2)


async def test_so_is_one_that_the_operator_has_not_named(declare: Declare, new_browser: NewBrowser, site: str) -> None:
    await declare(**OPEN, targets=["https://shop.example"])
    urls, page = await new_browser().go(f"{site}/shop")
    assert (page.status_code, state_of(page), len(urls)) == (400, "bad_link", 2)


async def test_a_token_is_good_for_its_own_event_alone(
    declare: Declare, new_browser: NewBrowser, site: str, event: str
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser()
    inside = next(url for url in (await browser.go(f"{site}/shop")).urls if "queueittoken" in url)
    other = new_browser(event=f"{event}-other")
    assert paths((await other.go(inside)).urls)[1] == "/waiting-room/-/q/error/eventid/"


async def test_a_visit_does_not_extend_the_connectors_cookie(
    declare: Declare, new_browser: NewBrowser, site: str
) -> None:
    await declare(**OPEN, targets=[site], session_ttl=5 * MINUTE)
    browser = new_browser()
    await browser.go(f"{site}/shop")
    urls, answer = await browser.go(f"{site}/shop", ahead=4 * MINUTE)
    assert (len(urls), answer.headers.get("set-cookie")) == (1, None)
    urls, _ = await browser.go(f"{site}/shop", ahead=5 * MINUTE + 30)
    assert paths(urls)[1] == "/waiting-room/-/q/"


async def test_cancelling_ends_the_session_and_the_next_visit_is_queued(
    declare: Declare, new_browser: NewBrowser, redis: Redis, site: str, event: str
) -> None:
    await declare(**OPEN, targets=[site], max_active=1)
    browser, next_one = new_browser(), new_browser()
    await browser.go(f"{site}/shop")
    assert state_of((await next_one.go(f"{site}/shop")).answer) == "join"
    urls, answer = await browser.go(f"{site}/logout")
    assert paths(urls) == ["/logout", f"/waiting-room/-/q/cancel/multiple/{CUSTOMER}", "/logout"]
    assert answer.text == "inside /logout"
    assert [name for name in browser.visitor.cookies if name.startswith(("daegi_p", "daegi_w", "QueueIT"))] == []
    assert await redis.zcard(Keys().event(event).ended) == 1
    await declare(**CLOSED)
    assert state_of((await browser.go(f"{site}/shop")).answer) == "join"


async def test_a_new_secret_queues_nobody_again(
    declare: Declare, new_browser: NewBrowser, redis_server: RedisServer, redis: Redis, site: str
) -> None:
    await declare(**OPEN, targets=[site])
    browser = new_browser()
    await browser.go(f"{site}/shop")
    await declare(**CLOSED)
    secret = "the secret that they share from now on"
    with Api(redis_server.url, **{**CONNECTED, "connector_secret": secret}) as rotated:
        there = {"secret": secret, "queueDomain": queue_domain(rotated)}
        urls, answer = await browser.go(f"{site}/shop", **there)
        assert (urls[-1], answer.status_code) == (f"{site}/shop", 200)
        assert len(urls) == 5
        # What was given before can still be ended.
        ended = Keys().event(str(browser.site["event"])).ended
        assert await redis.zcard(ended) == 0
        await browser.go(f"{site}/logout", **there)
        assert await redis.zcard(ended) == 1


async def test_a_token_may_be_bound_to_an_address(
    new_visitor: NewVisitor, declare: Declare, redis_server: RedisServer, site: str, event: str
) -> None:
    await declare(**OPEN, targets=[site])
    with Api(redis_server.url, **CONNECTED, connector_bind_ip=True) as binding:
        for header, address in (
            ("203.0.113.7", "203.0.113.7"),
            ("10.0.0.1, 203.0.113.7:4711", "203.0.113.7"),
            ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
        ):
            ours = {"event": event, "queueDomain": queue_domain(binding), "customer": CUSTOMER, "secret": SECRET}
            browser = Browser(new_visitor(), **ours, address=address)
            browser.visitor.headers["X-Forwarded-For"] = header
            urls, answer = await browser.go(f"{site}/shop")
            assert answer.text == "inside /shop"
            with_token = urls[-2]
            urls, page = await browser.go(f"{site}/shop", address="198.51.100.1")
            assert (page.status_code, state_of(page)) == (403, "refused_address")
            assert len(urls) == 2
            # Somebody else who was sent the link.
            stranger = Browser(new_visitor(), **ours, address="198.51.100.1")
            assert paths((await stranger.go(with_token)).urls)[1] == "/waiting-room/-/q/error/ip/"


@pytest.mark.parametrize(
    ("name", "leads_to"),
    [
        ("checkout", ["/shop", "/shop"]),
        # The token is accepted, and its cookie is not: around and around, were there such an event.
        ("Checkout", ["/shop", "/shop", "/waiting-room/-/q/"]),
        ("check_out", ["/shop", "/waiting-room/-/q/error/eventid/"]),
    ],
)
async def test_why_an_event_of_a_connector_may_not_be_called_so(
    new_browser: NewBrowser, site: str, name: str, leads_to: list[str]
) -> None:
    token = ConnectorTokens(SECRET).sign(name, NOBODY, valid_until=1 << 40, minutes=5, address=None)
    assert paths((await new_browser(event=name).go(f"{site}/shop?queueittoken={token}")).urls) == leads_to


async def test_nor_with_a_colon_at_which_the_site_fails(new_browser: NewBrowser, site: str) -> None:
    token = ConnectorTokens(SECRET).sign("check:out", NOBODY, valid_until=1 << 40, minutes=5, address=None)
    answer = (await new_browser(event="check:out").go(f"{site}/shop?queueittoken={token}")).answer
    assert answer.status_code == 500
    assert "name is invalid" in answer.text
