"""Tokens over HTTP: they work where they should, as long as their secret is known, and for nobody else."""

import httpx
import pytest
from redis.asyncio import Redis

from shared.dev.redis_server import RedisServer
from shared.line.keys import Keys
from shared.tokens.signer import Signer
from tests.api.bad_requests import LEAVE, STATUS
from tests.support.calls import enter, join, leave, running, status, try_enter, try_join, try_redeem, try_status
from tests.support.processes import Api
from tests.support.refusals import refused
from tests.support.settings import SECRET

pytestmark = pytest.mark.usefixtures("redis")


@pytest.mark.parametrize("joint", [".", ":", "-", "_", "~"])
async def test_an_event_named_after_somebodys_ticket_mints_nobodys_token(
    http: httpx.AsyncClient, signer: Signer, event: str, joint: str
) -> None:
    victims = (await join(http, event))["waiting_token"]
    place = signer.verify_waiting(victims)
    name = joint.join((event, str(place.ticket)))
    answer = await try_join(http, name)
    if joint == "~":
        refused(answer, 400, "INVALID_REQUEST")
        return
    minted = answer.json()["waiting_token"]
    assert signer.verify_waiting(minted).event_id == name
    # Pieces of the minted token, put together anew, are still no token of the victim.
    ticket, mac = minted.split("~")[2:]
    for forged in (
        f"w~{event}~{place.ticket}~{ticket}~{mac}",
        f"w~{event}~{place.ticket}~{mac}",
        f"w~{name.replace(joint, '~')}~{ticket}~{mac}",
    ):
        refused(await try_status(http, forged), 400, "INVALID_TOKEN")
        refused(await leave(http, forged), 400, "INVALID_TOKEN")
    await leave(http, minted)
    assert (await status(http, victims))["position"] == 1


async def test_a_token_of_one_event_says_nothing_about_another(
    http: httpx.AsyncClient, signer: Signer, event: str
) -> None:
    here = signer.verify_waiting((await join(http, event))["waiting_token"])
    await join(http, f"{event}-too")
    # Genuine, and signed for the other event: that one has no such ticket.
    elsewhere = signer.waiting(f"{event}-too", here.ticket)
    refused(await try_status(http, elsewhere), 404, "TOKEN_EXPIRED")
    refused(await try_enter(http, elsewhere), 404, "TOKEN_EXPIRED")


async def test_a_waiting_token_redeems_nothing_and_a_reservation_waits_for_nothing(
    http: httpx.AsyncClient, event: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    reservation = (await enter(http, token))["reservation_token"]
    refused(await try_redeem(http, token), 400, "INVALID_TOKEN")
    refused(await try_status(http, reservation), 400, "INVALID_TOKEN")
    refused(await try_enter(http, reservation), 400, "INVALID_TOKEN")
    refused(await leave(http, reservation), 400, "INVALID_TOKEN")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_status_and_leave_take_the_token_as_a_bearer_token_which_no_log_of_a_proxy_has(
    http: httpx.AsyncClient, event: str, scheme: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    bearer = {"Authorization": f"{scheme} {token}"}
    answer = await http.get(STATUS, headers=bearer)
    assert answer.status_code == 200
    newest = answer.json()["waiting_token"]
    assert (await http.get(f"{STATUS}?other=1", headers={"Authorization": f"{scheme} {newest}"})).status_code == 200
    # The query's comes first: a header may be somebody else's business, such as a proxy's.
    refused(await http.get(STATUS, params={"token": "w~forged"}, headers=bearer), 400, "INVALID_TOKEN")
    refused(await http.get(STATUS, headers={"Authorization": f"{scheme} {token}x"}), 400, "INVALID_TOKEN")
    for nothing in ("", scheme, f"Basic {token}", token):
        refused(await http.get(STATUS, headers={"Authorization": nothing}), 400, "MISSING_TOKEN")
    for method in ("DELETE", "POST"):
        assert (await http.request(method, LEAVE, headers=bearer)).json() == {"status": "left"}
    refused(await http.get(STATUS, headers=bearer), 404, "TOKEN_EXPIRED")


async def test_secrets_rotate_without_anybody_losing_their_place(
    http: httpx.AsyncClient, redis_server: RedisServer, redis: Redis, event: str
) -> None:
    old = (await join(http, event))["waiting_token"]
    with_both = Api(redis_server.url, token_secrets=["the secret that comes next", SECRET])
    async with running(with_both) as next_http:
        stands = await status(next_http, old)
        assert stands["position"] == 1
        new = stands["waiting_token"]
        assert Signer(["the secret that comes next"]).verify_waiting(new).event_id == event
        # The processes that do not know it yet refuse what the next secret signed.
        refused(await try_status(http, new), 400, "INVALID_TOKEN")
        await enter(next_http, new)
    assert await redis.zcard(Keys().event(event).admitted) == 1
