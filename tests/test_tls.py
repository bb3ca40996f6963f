"""rediss:// with a CA file: both processes work through a server that speaks TLS, and trust no other's certificate."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis

from shared.dev.redis_server import LOCALHOST, RedisServer
from shared.line.keys import Keys
from tests.support.calls import join, running, status, try_join
from tests.support.processes import Api, Worker
from tests.support.refusals import refused
from tests.support.relay import Relay
from tests.support.waiting import eventually


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    """Whose certificate is in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def tls_of(authority: trustme.CA) -> ssl.SSLContext:
    """What a server with a certificate of this authority listens with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(LOCALHOST).configure_cert(context)
    return context


async def test_people_and_workers_are_served_over_tls(
    ca: trustme.CA, tmp_path: Path, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    settings: dict[str, Any] = {"redis_ca_file": str(tmp_path / "ca.pem"), "heartbeat_ttl": 30, "ready_ttl": 9}
    async with Relay(redis_server.port, tls=tls_of(ca)) as relay, running(Api(relay.url, **settings)) as http:
        token = (await join(http, event))["waiting_token"]
        assert (await status(http, token))["position"] == 1
        worker = Worker(relay.url, **settings)
        try:
            await asyncio.to_thread(worker.__enter__)

            async def indexed() -> bool:
                return bool(await redis.exists(Keys("").event(event).position_index))

            await eventually(indexed)
        finally:
            await asyncio.to_thread(worker.__exit__)


async def test_another_authoritys_certificate_is_refused_in_a_clear_line(
    ca: trustme.CA, tmp_path: Path, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    async with Relay(redis_server.port, tls=tls_of(trustme.CA())) as relay:
        api = Api(relay.url, redis_ca_file=str(tmp_path / "ca.pem"), probe="/healthz")
        async with running(api) as http:
            refused(await try_join(http, event), 503, "UNAVAILABLE")

            async def said() -> bool:
                return "certificate verify failed" in api.log()

            await eventually(said)
    # Others write their pulses there.
    assert await redis.exists(*Keys().event(event)) == 0
