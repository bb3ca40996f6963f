"""The limit on joins from one address: which clients count as one, and what a flood of them costs."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from api.http.asgi import AsgiRequest
from api.http.errors import HttpError
from api.http.slow_bodies import SlowBodies
from api.queue.join_limit import MAX_ADDRESSES, JoinLimit, network
from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.api.bad_requests import JOIN
from tests.support.calls import client, running, status
from tests.support.processes import Api
from tests.support.raw_http import post, read_answer
from tests.support.redis_monitor import Monitor
from tests.support.refusals import refused, retry_after

SECOND = 1_000_000_000


def request_from(address: str) -> AsgiRequest:
    async def receive() -> dict[str, object]:
        raise AssertionError("nobody asks for a body")

    scope = {"method": "POST", "path": JOIN, "query_string": b"", "headers": [], "client": (address, 50_000)}
    return AsgiRequest(scope, receive, SlowBodies())


class Clients:
    """Joins of many clients at one limit, on a clock that the test moves."""

    def __init__(self, per_minute: int) -> None:
        self.now = 7 * SECOND
        self._limit = JoinLimit(per_minute, None, lambda: self.now)

    def joins(self, address: str) -> int:
        """0 if a join from there goes through, else the seconds after which to try again."""
        try:
            self._limit.take(request_from(address))
        except HttpError as error:
            refusal = error
        else:
            return 0
        assert (refusal.status, refusal.code) == (429, "RATE_LIMITED")
        assert refusal.retry_after
        return refusal.retry_after


def test_a_minutes_joins_may_come_at_once_and_are_earned_back_one_by_one() -> None:
    clients = Clients(3)
    assert [clients.joins("192.0.2.1") for _ in range(5)] == [0, 0, 0, 20, 20]
    clients.now += 19 * SECOND
    assert clients.joins("192.0.2.1") == 1
    assert clients.joins("192.0.2.2") == 0
    clients.now += SECOND
    assert [clients.joins("192.0.2.1") for _ in range(2)] == [0, 20]
    clients.now += 3600 * SECOND
    assert [clients.joins("192.0.2.1") for _ in range(4)] == [0, 0, 0, 20]


@given(st.integers(1, 30), st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=80))
def test_nobody_gets_more_than_the_burst_and_the_rate_and_waiting_for_retry_after_suffices(
    per_minute: int, pauses: list[int]
) -> None:
    clients = Clients(per_minute)
    begin, let_in = clients.now, 0
    for pause in pauses:
        clients.now += pause
        let_in += clients.joins("192.0.2.1") == 0
        assert let_in <= per_minute + (clients.now - begin) * per_minute / (60 * SECOND) + 1e-6
    while not (after := clients.joins("192.0.2.1")):
        pass
    clients.now += after * SECOND
    assert clients.joins("192.0.2.1") == 0


def test_a_flood_of_addresses_is_forgotten_again_and_refuses_nobody() -> None:
    clients = Clients(1)
    flood = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(MAX_ADDRESSES)]
    assert clients.joins("192.0.2.1") == 0
    assert clients.joins("192.0.2.1") > 0
    assert all(clients.joins(address) == 0 for address in flood)
    # As many as fit are remembered, the first one was not among them any more.
    assert all(clients.joins(address) > 0 for address in flood)
    assert clients.joins("192.0.2.1") == 0


def test_a_client_that_keeps_trying_is_not_forgotten_in_a_flood() -> None:
    clients = Clients(1)
    assert clients.joins("192.0.2.1") == 0
    for i in range(2 * MAX_ADDRESSES):
        clients.joins(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
        if i % 10_000 == 0:
            assert clients.joins("192.0.2.1") > 0


@pytest.mark.parametrize(
    "same",
    [
        ("192.0.2.1", "192.0.2.1:4711", " 192.0.2.1 ", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:4711"),
        (
            "2001:db8::1",
            "2001:db8::ffff:1",
            "[2001:db8::2]",
            "[2001:db8::3]:4711",
            "2001:DB8:0:0:9::",
            "2001:db8::1%eth0",
        ),
    ],
)
def test_one_client_is_one_however_it_is_written(same: tuple[str, ...]) -> None:
    assert len({network(text) for text in same}) == 1
    assert network(same[0]) is not None


def test_clients_of_different_networks_are_different_ones() -> None:
    different = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "::ffff:192.0.2.3", "::192.0.2.1")
    assert len({network(text) for text in different}) == len(different)


@pytest.mark.parametrize(
    "text", ["", " ", "unknown", "_hidden", "192.0.2", "192.0.2.256", "[", "%", "1\0", "é", "9" * 9000]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert network(text) is None


@pytest.fixture(scope="module")
def api(redis_server: RedisServer) -> Iterator[Api]:
    """One that lets an address join twice a minute, as the proxy names it; each test has addresses of its own."""
    with Api(redis_server.url, joins_per_minute=2, trusted_address_header="X-Forwarded-For") as started:
        yield started


@pytest.fixture
async def limited(api: Api, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    """Its client, on an empty Redis."""
    async with client(api.url) as http:
        yield http


async def from_address(http: httpx.AsyncClient, event: str, *forwarded: str) -> httpx.Response:
    headers = [("X-Forwarded-For", one) for one in forwarded]
    return await http.post(JOIN, json={"event_id": event}, headers=headers)


async def test_the_client_that_the_proxy_names_is_counted_and_not_the_one_that_it_claims_to_be(
    limited: httpx.AsyncClient, event: str
) -> None:
    for claimed in ("198.51.100.1", "198.51.100.2"):
        assert (await from_address(limited, event, f"{claimed}, 192.0.2.1")).status_code == 202
    for evasion in (
        ("198.51.100.3, 192.0.2.1",),
        ("192.0.2.1",),
        ("198.51.100.4", "192.0.2.1"),
        ("198.51.100.5,,192.0.2.1:4711",),
    ):
        answer = await from_address(limited, event, *evasion)
        refused(answer, 429, "RATE_LIMITED")
        assert retry_after(answer) <= 30
    # Whom it claimed to be has both of theirs, and so has everybody else.
    for other in ("198.51.100.1", "198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"):
        assert (await from_address(limited, event, other)).status_code == 202
    refused(await from_address(limited, event, "2001:db8::3"), 429, "RATE_LIMITED")
    assert (await from_address(limited, event, "2001:db8:0:1::1")).status_code == 202


async def test_what_names_no_address_counts_for_the_proxy_itself(limited: httpx.AsyncClient, event: str) -> None:
    assert (await from_address(limited, event)).status_code == 202
    assert (await from_address(limited, event, "unknown")).status_code == 202
    for evasion in ((), ("unknown",), ("192.0.2.7,",), ("a" * 4000,)):
        refused(await from_address(limited, event, *evasion), 429, "RATE_LIMITED")


async def test_a_refusal_costs_redis_nothing_and_all_but_joins_goes_on(
    limited: httpx.AsyncClient, api: Api, redis_server: RedisServer, event: str
) -> None:
    tokens = [(await from_address(limited, event, "203.0.113.1")).json()["waiting_token"] for _ in range(2)]
    async with Monitor(redis_server.url) as monitor:
        refusals = [await from_address(limited, event, "203.0.113.1") for _ in range(30)]
        # The bodies that were not read do not stand in the way of the next request on a connection.
        reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
        writer.write(post(JOIN, {"event_id": event, "pad": "x" * 16_000}, "X-Forwarded-For: 203.0.113.1"))
        refusals.append(await read_answer(reader, writer))
        commands = await monitor.commands()
    for answer in refusals:
        refused(answer, 429, "RATE_LIMITED")
    assert [command for command in commands if "{" + event + "}" in command] == []
    for _ in range(5):
        assert [(await status(limited, token))["position"] for token in tokens] == [1, 2]


@pytest.mark.usefixtures("redis")
async def test_by_default_nobody_is_counted(http: httpx.AsyncClient, event: str) -> None:
    for _ in range(100):
        assert (await from_address(http, event, "192.0.2.1")).status_code == 202


async def test_without_a_trusted_header_the_peer_is_counted_whatever_it_claims(
    redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with running(Api(redis_server.url, joins_per_minute=2)) as http:
        found = [(await from_address(http, event, f"192.0.2.{i}")).status_code for i in range(5)]
        assert found == [202, 202, 429, 429, 429]
