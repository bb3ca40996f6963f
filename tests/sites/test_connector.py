"""The addresses that Queue-it's connectors send people to, and what they are sent back with.

test_connector_site.py has the real connector. The token is checked here against the published format: the fields that
QueueITHelpers of queueit/KnownUser.V3.Javascript and .PHP read, and the HMAC-SHA256 that their README shows.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from api.gate.cookies import cookie_name
from api.room.assets import load_assets
from api.room.texts import LANGUAGES, texts_in
from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.connector import ConnectorTokens
from tests.api.test_secrecy import ChattyApi
from tests.gate.conftest import NAVIGATION
from tests.room.test_visits import CLOSED, act, state_of
from tests.sites.conftest import Declare, NewVisitor, SignedApi
from tests.support.connector_site import CUSTOMER, SECRET
from tests.support.odd_input import visible
from tests.support.pass_keys import new_key
from tests.support.processes import Api
from tests.support.settings import OPERATOR
from tests.support.visits import SIGNER, ask_gate, pass_of, visit_room
from tests.support.waiting import eventually

Q = "/waiting-room/-/q"
SHOP = "https://shop.example"
OPEN = {"rate": 10, "burst": 10, "targets": [SHOP]}
TOKEN = re.compile(
    r"e_(?P<event>[a-z0-9.-]+)~q_(?P<uuid>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})~ts_(?P<until>\d{10})~ce_false"
    r"~cv_(?P<minutes>\d+)~rt_queue(~hip_(?P<address>[0-9a-f]{64}))?~h_(?P<hash>[0-9a-f]{64})"
)


@pytest.fixture(scope="module")
def site_api(redis_server: RedisServer) -> Iterator[Api]:
    with Api(redis_server.url, connector_secret=SECRET, connector_customer=CUSTOMER) as api:
        yield api


@pytest.fixture(scope="module")
def plain_api(redis_server: RedisServer) -> Iterator[Api]:
    """One that knows of no connectors."""
    with Api(redis_server.url) as api:
        yield api


def query(event: str, target: str = f"{SHOP}/cart", customer: str = CUSTOMER, **more: str) -> str:
    """What a connector asks with."""
    known = {"c": customer, "e": event, "ver": "v3-php-3.7.5", "cver": "3", "man": "come in", "cid": "de-DE"}
    given = known | {"t": target} | more
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items() if value)


def token_in(url: str) -> re.Match[str]:
    """The token in a URL; its hash is right."""
    text = url.partition("queueittoken=")[2].partition("#")[0]
    found = TOKEN.fullmatch(text)
    assert found, url
    signed = hmac.new(SECRET.encode(), text.partition("~h_")[0].encode(), hashlib.sha256)
    assert found["hash"] == signed.hexdigest()
    return found


def forgotten(answer: httpx.Response) -> list[str]:
    """The cookies that an answer takes away."""
    return [one.partition("=")[0] for one in answer.headers.get_list("set-cookie") if "Max-Age=0" in one]


async def test_without_its_settings_there_is_nothing_there(plain_api: Api, redis: Redis, event: str) -> None:
    async with httpx.AsyncClient(base_url=plain_api.url, headers=NAVIGATION) as visitor:
        await visitor.put(f"/api/v1/admin/events/{event}", json=OPEN, headers=OPERATOR)
        for path in (Q, f"{Q}/", f"{Q}/error/hash/", f"{Q}/cancel/{CUSTOMER}/{event}"):
            assert (await visitor.get(f"{path}?{query(event)}")).status_code == 404, path
        sent = await visit_room(visitor, event, quote(f"{SHOP}/cart", safe=""))
        assert sent.headers["location"] == f"{SHOP}/cart"


@pytest.mark.parametrize("path", [Q, f"{Q}/"])
async def test_a_connector_leads_to_the_room_of_its_event(
    declare: Declare, new_visitor: NewVisitor, event: str, path: str
) -> None:
    await declare(**OPEN)
    answer = await new_visitor().get(f"{path}?{query(event, f'{SHOP}/cart?a=1&b=%2F')}")
    assert answer.status_code == 303
    target = "https%3A%2F%2Fshop.example%2Fcart%3Fa%3D1%26b%3D%252F"
    assert answer.headers["location"] == f"/waiting-room/{event}?next={target}"


async def test_an_old_token_in_the_target_is_left_behind(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**OPEN)
    old = f"{SHOP}/cart?queueittoken=e_x~h_y&a=1&QueueITToken=z#top"
    first = await new_visitor().get(f"{Q}/?{query(event, old)}")
    assert first.headers["location"].endswith(quote(f"{SHOP}/cart?a=1#top", safe=""))
    for way in (f"{Q}/?{query(event, old)}", f"/waiting-room/{event}?next={quote(old, safe='')}"):
        visitor, url = new_visitor(), way
        while not url.startswith(SHOP):
            url = (await visitor.get(url)).headers["location"]
        assert re.sub(r"(?<=&)queueittoken=[^#]+", "", url) == f"{SHOP}/cart?a=1&#top"


async def test_without_a_target_the_home_is_where_people_go(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**OPEN, home=f"{SHOP}/start")
    answer = await new_visitor().get(f"{Q}/?{query(event, '')}")
    assert answer.headers["location"] == f"/waiting-room/{event}?next={quote(f'{SHOP}/start', safe='')}"


@pytest.mark.parametrize("path", [f"{Q}/", f"{Q}/error/hash/", f"{Q}/error/timestamp/"])
async def test_what_a_connector_asks_wrongly_is_told_on_a_page(
    declare: Declare, new_visitor: NewVisitor, event: str, path: str
) -> None:
    await declare(**OPEN)
    visitor = new_visitor()
    for asked, status, state in (
        (query(event, customer="other"), 404, "unknown_site"),
        (query(event, customer=""), 404, "unknown_site"),
        ("", 404, "unknown_site"),
        (query("no-such-event"), 404, "not_found"),
        (query("-"), 404, "not_found"),
        (query("../x"), 404, "not_found"),
        (query(event, "https://evil.example/"), 400, "bad_link"),
        (query(event, f"{SHOP}.evil.example/"), 400, "bad_link"),
        (query(event, "//evil.example"), 400, "bad_link"),
        (query(event, "/cart"), 400, "bad_link"),
        (query(event, "javascript:alert(1)"), 400, "bad_link"),
    ):
        answer = await visitor.get(f"{path}?{asked}")
        assert (answer.status_code, state_of(answer)) == (status, state), asked
        assert "evil" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


async def test_who_comes_in_has_a_token_for_as_long_as_their_session(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(**OPEN, session_ttl=420)
    visitor = new_visitor()
    before = time.time()
    answer = await visit_room(visitor, event, quote(f"{SHOP}/cart?a#top", safe=""))
    location = answer.headers["location"]
    assert answer.status_code == 303
    assert re.fullmatch(r"https://shop\.example/cart\?a&queueittoken=[^&#]+#top", location)
    token = token_in(location)
    assert (token["event"], token["minutes"], token["address"]) == (event, "7", None)
    assert int(before) + 120 <= int(token["until"]) <= time.time() + 120
    ticket = pass_of(visitor).ticket
    assert SIGNER.ticket_of_uuid(event, token["uuid"]) == ticket
    ends = await redis.zscore(Keys().event(event).sessions, str(ticket))
    assert ends == pass_of(visitor).until + 2000
    assert before + 421 <= float(ends or 0) / 1000 <= time.time() + 423


async def test_a_script_is_told_the_same(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED, targets=[SHOP])
    visitor, after = new_visitor(), quote(f"{SHOP}/cart", safe="")
    await visit_room(visitor, event, after)
    await act(visitor, event, "join", after)
    await declare(**OPEN)

    async def enter() -> str | None:
        location = (await act(visitor, event, "enter", after)).json().get("location")
        return str(location) if location else None

    first = token_in(await eventually(enter))
    # Another tab of theirs.
    assert token_in(await enter() or "")["uuid"] == first["uuid"]
    assert SIGNER.ticket_of_uuid(event, first["uuid"]) == pass_of(visitor).ticket


async def test_what_is_on_our_own_host_needs_no_token(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**OPEN)
    assert (await visit_room(new_visitor(), event, "%2Fcheckout%3Fa%3D1")).headers["location"] == "/checkout?a=1"


@pytest.mark.parametrize(
    ("session_ttl", "minutes"),
    # A connector would take 0 for a time of its own.
    [(200, "3"), (130, "2"), (40, "1")],
)
async def test_a_token_lasts_for_what_is_left_of_the_session(
    declare: Declare, new_visitor: NewVisitor, event: str, session_ttl: int, minutes: str
) -> None:
    await declare(**OPEN, session_ttl=session_ttl)
    visitor, after = new_visitor(), quote(f"{SHOP}/cart", safe="")
    first = await visit_room(visitor, event, after)
    mine = pass_of(visitor)
    # Longer sessions are for those who come in from now on.
    await declare(session_ttl=600)
    again = await visit_room(visitor, event, after)
    assert [token_in(answer.headers["location"])["minutes"] for answer in (first, again)] == [minutes, minutes]
    assert pass_of(visitor) == mine


async def test_where_there_are_keys_too_people_bring_along_both(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    connected = {"connector_secret": SECRET, "connector_customer": CUSTOMER}
    with SignedApi(redis_server.url, new_key(), **connected) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
            await visitor.put(f"/api/v1/admin/events/{event}", json=OPEN, headers=OPERATOR)
            for _ in range(2):
                sent = await visit_room(visitor, event, quote(f"{SHOP}/cart?a=1#top", safe=""))
                location = sent.headers["location"]
                assert re.fullmatch(
                    r"https://shop\.example/cart\?a=1&daegi_pass=[^&]+&queueittoken=[^&]+#top", location
                )
                assert token_in(location)["event"] == event


async def test_a_session_limit_is_the_tokens_too(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**OPEN, session_ttl=600, session_limit=130)
    answer = await visit_room(new_visitor(), event, quote(f"{SHOP}/cart", safe=""))
    assert token_in(answer.headers["location"])["minutes"] == "2"


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("hash", "refused_hash"),
        ("eventid", "refused_event"),
        ("ip", "refused_address"),
        ("qidlimit", "refused_often"),
        ("connector/sessionstate", "refused_address"),
        ("something/new", "refused"),
        ("", "refused"),
        ("%ff%00", "refused"),
    ],
)
async def test_a_refused_token_is_explained(
    declare: Declare, new_visitor: NewVisitor, event: str, code: str, state: str
) -> None:
    await declare(**OPEN)
    visitor = new_visitor()
    for lang in LANGUAGES:
        visitor.headers["Accept-Language"] = lang
        answer = await visitor.get(f"{Q}/error/{code}/?{query(event, queueittoken='e_x~h_hushhush', ts='1')}")
        assert (answer.status_code, state_of(answer)) == (403, state)
        assert texts_in(lang).states[state].advice in answer.text  # type: ignore[index] # one of State
        assert "hush" not in answer.text
        # The way back is that of any visitor.
        (button,) = re.findall(r'<a class="button" href="([^"]+)" data-in="[a-z_ ]*">', answer.text)
        assert button == f"/waiting-room/{event}?next=https%3A//shop.example/cart"


async def test_a_token_that_came_too_late_is_tried_again_once(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**OPEN)
    visitor, url = new_visitor(), f"{Q}/error/timestamp/?{query(event, queueittoken='e_x~ts_1~h_y', ts='2')}"
    first = await visitor.get(url)
    assert first.status_code == 303
    assert first.headers["location"] == f"/waiting-room/{event}?next={quote(f'{SHOP}/cart', safe='')}"
    (cookie,) = first.headers.get_list("set-cookie")
    assert cookie.startswith(f"{cookie_name('t', event)}=1; Path=/; HttpOnly; SameSite=Lax; Max-Age=60")
    for _ in range(2):
        again = await visitor.get(url)
        assert (again.status_code, state_of(again)) == (403, "refused_time")
    # That was one event and one browser.
    await new_visitor().put(f"/api/v1/admin/events/{event}-2", json=OPEN, headers=OPERATOR)
    assert (await visitor.get(url.replace(f"e={event}&", f"e={event}-2&"))).status_code == 303
    assert (await new_visitor().get(url)).status_code == 303


async def inside(visitor: httpx.AsyncClient, event: str) -> str:
    """Lets a visitor in; their queue id."""
    answer = await visit_room(visitor, event, quote(f"{SHOP}/cart", safe=""))
    return token_in(answer.headers["location"])["uuid"]


@pytest.mark.parametrize(
    "spelled",
    [
        f"cancel/{CUSTOMER}/{{event}}/{{uuid}}?c={CUSTOMER}&e={{event}}&ver=v3-php-3.7.5&r={{after}}",
        f"cancel/{CUSTOMER}/{{event}}/{{uuid}}/?r={{after}}",
        f"cancel/multiple/{CUSTOMER}?wrl={{event}}~{{uuid}}&r={{after}}",
        f"cancel/multiple/{CUSTOMER}?wrl=no-such-event_{{event}}~{{uuid}}_x~y~z&r={{after}}",
    ],
)
async def test_cancelling_releases_and_leads_on(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str, spelled: str
) -> None:
    await declare(**OPEN)
    visitor = new_visitor()
    uuid = await inside(visitor, event)
    assert (await ask_gate(visitor, event)).status_code == 200
    kept = visitor.cookies[cookie_name("p", event)]
    after = f"{SHOP}/bye?a=1&queueittoken=old"
    answer = await visitor.get(f"{Q}/{spelled.format(event=event, uuid=uuid, after=quote(after, safe=''))}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{SHOP}/bye?a=1")
    assert forgotten(answer) == [cookie_name("p", event), cookie_name("w", event)]
    assert await redis.zcard(Keys().event(event).ended) == 1
    # The pass itself is good no more, wherever it is shown.
    visitor.cookies.set(cookie_name("p", event), kept, domain="127.0.0.1", path="/")
    assert (await ask_gate(visitor, event)).status_code == 302


async def test_nobody_is_released_without_a_genuine_queue_id(
    declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str
) -> None:
    await declare(**OPEN)
    visitor, stranger = new_visitor(), new_visitor()
    uuid = await inside(visitor, event)
    other = SIGNER.ticket_uuid(f"{event}-2", pass_of(visitor).ticket)
    forged = f"{uuid[:-1]}{'0' if uuid[-1] != '0' else '1'}"
    for wrong in (forged, other, "", "x", uuid.replace("-", ""), f"{{{uuid}}}", "\u0660" * 32, "0" * 400, uuid[:-1]):
        answer = await visitor.get(f"{Q}/cancel/{CUSTOMER}/{event}/{quote(wrong)}?r={SHOP}/bye")
        assert answer.status_code == 303, (wrong, answer.text)
        assert answer.headers["location"] == f"{SHOP}/bye"
        assert forgotten(answer) == []
    assert (await visitor.get(f"{Q}/cancel/other/{event}/{uuid}?r={SHOP}/bye")).status_code == 404
    assert (await visitor.get(f"{Q}/cancel/{CUSTOMER}/no-such-event/{uuid}?r={SHOP}/bye")).status_code == 404
    assert await redis.zcard(Keys().event(event).ended) == 0
    assert (await ask_gate(visitor, event)).status_code == 200
    # A link with somebody else's queue id takes nothing from whoever follows it.
    theirs = await inside(stranger, event)
    answer = await visitor.get(f"{Q}/cancel/{CUSTOMER}/{event}/{theirs}?r={SHOP}/bye")
    assert forgotten(answer) == []
    assert (await ask_gate(visitor, event)).status_code == 200
    assert (await ask_gate(stranger, event)).status_code == 302


@pytest.mark.parametrize("after", ["https://evil.example/", "//evil.example", "", "javascript:alert(1)"])
async def test_cancelling_leads_nowhere_else(declare: Declare, new_visitor: NewVisitor, event: str, after: str) -> None:
    await declare(**OPEN, home=f"{SHOP}/start")
    visitor = new_visitor()
    uuid = await inside(visitor, event)
    answer = await visitor.get(f"{Q}/cancel/{CUSTOMER}/{event}/{uuid}?r={quote(after, safe='')}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{SHOP}/start")


async def test_rotated_token_secrets_still_end_what_they_gave(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    was, new = "the secret before this one, long enough", "the secret that comes after it, long enough"
    connected = {"connector_secret": SECRET, "connector_customer": CUSTOMER}
    with (
        Api(redis_server.url, token_secrets=[was], **connected) as before,
        Api(redis_server.url, token_secrets=[new, was], **connected) as rotating,
        Api(redis_server.url, token_secrets=[new], **connected) as rotated,
    ):
        async with httpx.AsyncClient(headers=NAVIGATION) as visitor:
            await visitor.put(f"{before.url}/api/v1/admin/events/{event}", json=OPEN, headers=OPERATOR)
            visitor.base_url = httpx.URL(before.url)
            uuid = await inside(visitor, event)
            for api, ended in ((rotated, 0), (rotating, 1)):
                await visitor.get(f"{api.url}{Q}/cancel/{CUSTOMER}/{event}/{uuid}?r={SHOP}/bye")
                assert await redis.zcard(Keys().event(event).ended) == ended


@pytest.mark.parametrize("name", ["Checkout", "check:out", "check_out"])
async def test_an_event_that_connectors_cannot_take_is_not_declared(
    new_visitor: NewVisitor, plain_api: Api, name: str
) -> None:
    operator = new_visitor()
    refused = await operator.put(f"/api/v1/admin/events/{name}", json={"rate": 1}, headers=OPERATOR)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    assert "[a-z0-9.-]" in refused.json()["error"]["message"]
    assert (await operator.get(f"/api/v1/admin/events/{name}", headers=OPERATOR)).status_code == 404
    # One that is there already can be paused.
    await operator.put(f"{plain_api.url}/api/v1/admin/events/{name}", json=OPEN, headers=OPERATOR)
    for change, status in (({"paused": True}, 200), ({"targets": []}, 200), ({"targets": [SHOP]}, 422), ({}, 200)):
        answer = await operator.put(f"/api/v1/admin/events/{name}", json=change, headers=OPERATOR)
        assert answer.status_code == status, change


async def test_one_that_had_targets_before_gives_no_token(
    new_visitor: NewVisitor, plain_api: Api, redis: Redis
) -> None:
    visitor = new_visitor()
    await visitor.put(f"{plain_api.url}/api/v1/admin/events/Checkout", json=OPEN, headers=OPERATOR)
    sent = await visit_room(visitor, "Checkout", quote(f"{SHOP}/cart", safe=""))
    assert sent.headers["location"] == f"{SHOP}/cart"


async def test_assets_are_served_beside_it(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    assert (await visitor.get(load_assets().url("style.css"))).status_code == 200
    for path in (f"{Q}x", f"{Q}/x", f"{Q}/error", f"{Q}/cancel", f"{Q}//"):
        assert (await visitor.get(path)).status_code == 404, path
    assert (await visitor.post(f"{Q}/")).status_code == 405


async def test_while_redis_is_unavailable_a_page_says_so_or_the_room_does(own_server: RedisServer, event: str) -> None:
    with Api(own_server.url, connector_secret=SECRET, connector_customer=CUSTOMER) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
            for name in (event, f"{event}-2"):
                await visitor.put(f"/api/v1/admin/events/{name}", json=OPEN, headers=OPERATOR)
            uuid = await inside(visitor, event)
            own_server.kill()
            for path in (f"{Q}/", f"{Q}/error/hash/"):

                async def told(path: str = path) -> str:
                    answer = await visitor.get(f"{path}?{query(f'{event}-2')}")
                    return answer.text if answer.status_code == 503 and state_of(answer) == "unavailable" else ""

                # Afterwards they go where they wanted to.
                assert f'href="/waiting-room/{event}-2?next=https%3A//shop.example/cart"' in await eventually(told)
                for odd in ("javascript:alert(1)", "//evil.example", "/cart", ""):
                    answer = await visitor.get(f"{path}?{query(f'{event}-2', odd)}")
                    assert f'href="/waiting-room/{event}-2?next=/"' in answer.text
            assert (await visitor.get(f"{Q}/?{query(event)}")).status_code == 303
            # Nobody waits for a release: the session ends by itself.
            answer = await visitor.get(f"{Q}/cancel/{CUSTOMER}/{event}/{uuid}?r={SHOP}/bye")
            assert (answer.status_code, answer.headers["location"]) == (303, f"{SHOP}/bye")
            assert forgotten(answer) == []
        assert "a session could not be released" in api.log()
        assert uuid not in api.log()


@pytest.mark.parametrize("kind", [Api, ChattyApi])
async def test_nothing_of_it_is_logged(redis_server: RedisServer, redis: Redis, event: str, kind: type[Api]) -> None:
    with kind(redis_server.url, connector_secret=SECRET, connector_customer=CUSTOMER, log_level="debug") as api:
        async with httpx.AsyncClient(base_url=api.url, headers=NAVIGATION) as visitor:
            await visitor.put(f"/api/v1/admin/events/{event}", json=OPEN, headers=OPERATOR)
            sent = (await visit_room(visitor, event, quote(f"{SHOP}/cart", safe=""))).headers["location"]
            token = token_in(sent)
            for code in ("hash", "timestamp"):
                await visitor.get(f"{Q}/error/{code}/?{query(event, sent)}&queueittoken={token[0]}")
            await visitor.get(f"{Q}/cancel/multiple/{CUSTOMER}?wrl={event}~{token['uuid'].upper()}")
            await visitor.get(f"{Q}/cancel/{CUSTOMER}/{event}/{token['uuid']}?r={quote(sent, safe='')}")
            metrics = (await visitor.get("/metrics")).text
        assert event in api.log()
        assert (f"/cancel/{CUSTOMER}/{event}/[redacted]?r=" in api.log()) == (kind is ChattyApi)
        for written in (api.log(), metrics):
            assert [secret for secret in (SECRET, token["uuid"]) if secret in written.lower()] == []


paths = st.one_of(
    st.tuples(st.sampled_from(["", "/", "/error/", "/cancel/", "/cancel/multiple/"]), visible).map("".join),
    st.tuples(st.just(f"/cancel/{CUSTOMER}/concert/"), visible).map("".join),
)
parameters = st.dictionaries(
    st.sampled_from(["c", "e", "t", "r", "wrl", "queueittoken", "cid"]),
    st.one_of(st.text(max_size=80), st.sampled_from([CUSTOMER, "concert", f"{SHOP}/a?b#c", "a_b~c", "\ufffd\0"])),
)


@pytest.fixture(scope="module")
def client(site_api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site_api.url, headers=NAVIGATION, timeout=30) as opened:
        opened.put("/api/v1/admin/events/concert", json=OPEN, headers=OPERATOR)
        yield opened


@given(paths, parameters, visible)
@example("/cancel/multiple/", {"wrl": "concert~" * 2000}, "")
@example("/cancel/multiple/acme", {"wrl": "\u0660~00000000-0000-8000-8000-000000000000"}, "")
@example("/error/timestamp/", {"c": CUSTOMER, "e": "concert", "t": "https://[::1"}, "")
@example("/", {"c": CUSTOMER, "e": "concert", "t": "\ud7ff\U0010ffff" * 400}, "")
@example("/", {"c": CUSTOMER, "e": "concert"}, "t=%ff%fe%00&" + "&" * 40)
@settings(max_examples=200)
def test_whatever_is_asked_is_answered(client: httpx.Client, path: str, asked: dict[str, str], rest: str) -> None:
    encoded = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
    answer = client.get(f"{Q}{quote(path, safe='/%')}?{encoded}&{quote(rest, safe='&=%')}")
    assert answer.status_code in {200, 303, 400, 403, 404}, answer.text
    assert len(answer.content) < 40_000
    if answer.status_code == 303:
        assert urlsplit(answer.headers["location"]).netloc in {"", "shop.example"}


def test_signing_is_that_of_the_published_example() -> None:
    """queueit/KnownUser.V3.PHP computes hash_hmac("sha256", all before ~h_, secret), and so does sha256 here."""
    token = ConnectorTokens("secret").sign("e1", "q1", valid_until=1, minutes=2, address="203.0.113.7")
    hashed = hmac.new(b"secret", b"203.0.113.7", hashlib.sha256).hexdigest()
    body = f"e_e1~q_q1~ts_1~ce_false~cv_2~rt_queue~hip_{hashed}"
    assert token == f"{body}~h_{hmac.new(b'secret', body.encode(), hashlib.sha256).hexdigest()}"
