"""A guarded site: real proxies with our recipes, a real api as their gate, and a toy shop behind."""

import os
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import httpx
import pytest

from shared.dev.redis_server import RedisServer
from shared.tokens.signer import Signer
from tests.proxies.proxy import Apache, Caddy, Haproxy, Nginx, Proxy
from tests.proxies.upstream import Upstream
from tests.support.processes import Api
from tests.support.settings import OPERATOR, SECRET

PROXIES: dict[str, type[Proxy]] = {kind.name: kind for kind in (Nginx, Caddy, Haproxy, Apache)}
"""By the name under which `make test-proxies` runs them."""

EVENT = "sale"
TTL = 300


def cookie_name(event: str) -> str:
    """The name of an event's pass cookie over http; over https `__Host-` stands before it."""
    return f"daegi_p_{blake2b(event.encode(), digest_size=5).hexdigest()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs behind each proxy: behind nginx and Caddy unless TEST_PROXIES names others."""
    if "kind" in metafunc.fixturenames:
        names = os.environ.get("TEST_PROXIES", "nginx,caddy").split(",")
        metafunc.parametrize("kind", [PROXIES[name] for name in names], ids=names, scope="session")


class Site(NamedTuple):
    """A guarded site. `shop.reached` has what got through; it is empty when a test begins."""

    proxy: Proxy
    shop: Upstream
    signer: Signer

    @property
    def port(self) -> int:
        """Where visitors come."""
        return self.proxy.port

    def cookie(self, *, seconds: float = TTL, ticket: int = 1_790_000_000_000_001, event: str = EVENT) -> str:
        """The cookie of a pass that is good for so long, from the gate's own signer."""
        now = time.time_ns() // 1_000_000
        return f"{cookie_name(EVENT)}={self.signer.pass_token(event, ticket, now, now + round(seconds * 1000))}"


@pytest.fixture(scope="session")
def gate_redis() -> Iterator[RedisServer]:
    """One that no other suite empties."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def gate(gate_redis: RedisServer) -> Iterator[Api]:
    """The api whose gate is asked, with an event at which nobody is let in."""
    with Api(gate_redis.url, trusted_address_header="X-Forwarded-For") as api:
        declare(api)
        yield api


def declare(api: Api, event: str = EVENT, **changes: object) -> None:
    """Has the operator declare an event."""
    settings = {"rate": 0, "burst": 0, "session_ttl": TTL, "home": "/home", **changes}
    answer = httpx.put(f"{api.url}/api/v1/admin/events/{event}", json=settings, headers=OPERATOR, trust_env=False)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def shop() -> Iterator[Upstream]:
    """What stands behind the proxies."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def proxy(kind: type[Proxy], gate: Api, shop: Upstream) -> Iterator[Proxy]:
    """A proxy in front of both."""
    with kind(gate=gate.port, shop=shop.port, event=EVENT) as running:
        yield running


@pytest.fixture
def site(proxy: Proxy, shop: Upstream) -> Site:
    """All of it."""
    return new_site(proxy, shop)


def new_site(proxy: Proxy, shop: Upstream) -> Site:
    """A site that nothing has reached yet."""
    shop.reached.clear()
    return Site(proxy, shop, Signer([SECRET]))
