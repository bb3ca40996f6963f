"""A new key, step by step as the recipes say, in two processes and under traffic."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import jwt
import pytest
from joserfc import jwt as jose_jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from redis.asyncio import Redis

from api.process import cancel
from shared.dev.redis_server import RedisServer
from tests.support.calls import client, enter, join, redeem
from tests.support.pass_keys import new_key
from tests.support.processes import Api
from tests.support.waiting import eventually

ISSUER = "https://queue.example"


def signer_of(token: str) -> str:
    """The name of the key."""
    return str(jwt.get_unverified_header(token)["kid"])


async def published(api: Api) -> KeySet:
    """What a site fetches from this process."""
    async with client(api.url) as http:
        return KeySet.import_key_set((await http.get("/.well-known/jwks.json")).json())


class Fleet:
    """Two processes, and the passes that they gave."""

    def __init__(self, redis_url: str, event: str, stack: AsyncExitStack) -> None:
        self.redis_url, self.event, self.stack = redis_url, event, stack
        self.apis: list[Api] = []
        self.passes: list[str] = []
        self.given = [0, 0]

    def start(self, *keys: str) -> Api:
        settings: dict[str, Any] = {"public_url": ISSUER, "admit_rate": 1000, "admit_burst": 10_000}
        return self.stack.enter_context(Api(self.redis_url, pass_keys=list(keys), **settings))

    async def give_passes(self, number: int) -> None:
        """Without an end, whichever process has this number at the time."""
        while True:
            async with client(self.apis[number].url) as http:
                with contextlib.suppress(httpx.TransportError):
                    for _ in range(5):
                        token = (await join(http, self.event))["waiting_token"]
                        reservation = (await enter(http, token))["reservation_token"]
                        self.passes.append((await redeem(http, reservation))["pass_jwt"])
                        self.given[number] += 1
                        await asyncio.sleep(0.02)

    async def roll(self, *keys: str) -> None:
        """Replaces one process after the other by one with these keys, and sees that both know every pass."""
        for number in range(2):
            old, self.apis[number] = self.apis[number], await asyncio.to_thread(self.start, *keys)
            await asyncio.to_thread(old.stop)
            before = list(self.given)

            async def both_gave_more(before: list[int] = before) -> bool:
                return all(now > then + 10 for now, then in zip(self.given, before, strict=True))

            await eventually(both_gave_more)
            for api in self.apis:
                # Before the keys: what is given later may be of one that is published later.
                passes = list(self.passes)
                known = await published(api)
                for token in passes:
                    assert jose_jwt.decode(token, known, algorithms=["ES256"]).claims["iss"] == ISSUER


@pytest.fixture
async def fleet(redis_server: RedisServer, redis: Redis, event: str) -> AsyncIterator[Fleet]:
    """Not started."""
    async with AsyncExitStack() as stack:
        yield Fleet(redis_server.url, event, stack)


async def test_no_pass_is_ever_of_a_key_that_a_site_cannot_fetch(fleet: Fleet) -> None:
    old, new = new_key(), new_key()
    old_name, new_name = (ECKey.import_key(key).thumbprint() for key in (old, new))
    fleet.apis = [await asyncio.to_thread(fleet.start, old) for _ in range(2)]
    for number in range(2):
        fleet.stack.push_async_callback(cancel, asyncio.create_task(fleet.give_passes(number)))
    await fleet.roll(old, new)
    assert {signer_of(token) for token in fleet.passes} == {old_name}
    await fleet.roll(new, old)
    assert {signer_of(token) for token in fleet.passes[-10:]} == {new_name}
    # The old one is removed when its passes have ended.
    last = [token for token in fleet.passes if signer_of(token) == old_name][-1]
    fleet.passes = [token for token in fleet.passes if signer_of(token) == new_name]
    await fleet.roll(new)
    for api in fleet.apis:
        with pytest.raises((JoseError, ValueError)):
            jose_jwt.decode(last, await published(api), algorithms=["ES256"])
