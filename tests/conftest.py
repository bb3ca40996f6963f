"""What the tests run on: a real redis-server, a line on it whose clock tests can move, and real processes."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer, find_redis_server
from shared.line.line import Line
from shared.redis.connect import connect
from shared.settings import Settings
from shared.tokens.signer import Signer
from tests.support.processes import Api
from tests.support.settings import ADMIN_KEY, SECRET

# How long an example takes says nothing on a shared machine.
hypothesis_settings.register_profile("daegi", deadline=None, max_examples=60)
hypothesis_settings.load_profile("daegi")

_numbers = itertools.count(1)


def pytest_report_header() -> str:
    """Which Redis the tests run on."""
    return str(find_redis_server())


class Clock:
    """A clock in us that only tests move; it begins at a fixed time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves it, also back."""
        self.now += round(seconds * 1_000_000)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests that do not hurt it; emptied before each test."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """What DAEGI_REDIS_URL is for it."""
    return redis_server.url


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """One that a test may pause, kill and restart; with an append-only file that is written at every change."""
    with RedisServer().start(None, None, "--appendfsync", "always", appendonly=True) as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A plain client of the emptied server, for looking and for damage."""
    client = Redis.from_url(redis_server.url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    """The time of `line`."""
    return Clock()


MakeLine = Callable[..., Line]


@pytest.fixture
async def make_line(redis_server: RedisServer, redis_url: str, redis: Redis, clock: Clock) -> AsyncIterator[MakeLine]:
    """Makes lines with the settings given, all on the tests' clock."""
    clients = []

    def make(**settings: object) -> Line:
        urls = {"redis_url": redis_url, "jobs_redis_url": redis_server.url}
        made = Settings.model_validate({**urls, **settings})
        clients.append(connect(made, "daegi-tests"))
        return Line(clients[-1], made, clock)

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def line(make_line: MakeLine) -> Line:
    """A line with the default settings."""
    return make_line()


@pytest.fixture
def event() -> str:
    """An event that no other test uses."""
    return f"event-{next(_numbers)}"


@pytest.fixture
def signer() -> Signer:
    """Signs as the tests' processes do."""
    return Signer([SECRET])


@pytest.fixture(scope="session")
def shared_api(redis_server: RedisServer) -> Iterator[Api]:
    """An api process for tests that leave it as it was; each uses an event of its own."""
    with Api(redis_server.url, trusted_user_header="X-User-Id", cors_origins=["https://shop.example"]) as api:
        yield api


@pytest.fixture
async def http(shared_api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `shared_api`."""
    limits = httpx.Limits(max_connections=600, max_keepalive_connections=600)
    # Nothing here speaks TLS, and reading certificates takes longer than many a test.
    async with httpx.AsyncClient(
        base_url=shared_api.url, limits=limits, timeout=30, trust_env=False, verify=False
    ) as client:
        yield client


@pytest.fixture
def admin() -> dict[str, str]:
    """The headers of an operator."""
    return {"Authorization": f"Bearer {ADMIN_KEY}"}
