"""Join, status, enter, redeem, leave, as one person sees them."""

from datetime import datetime

import httpx
import pytest
from redis.asyncio import Redis

from shared.tokens.signer import Signer
from tests.support.calls import configure, enter, join, leave, redeem, status, try_enter, try_redeem, try_status
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("redis")


async def test_from_join_to_redeem(http: httpx.AsyncClient, signer: Signer, event: str) -> None:
    joined = await join(http, event, label="somebody")
    assert joined.keys() == {"waiting_token", "position_hint", "status", "poll_after_ms"}
    assert (joined["position_hint"], joined["status"]) == (1, "waiting")
    place = signer.verify_waiting(joined["waiting_token"])
    assert place.event_id == event

    stands = await status(http, joined["waiting_token"])
    fresh_token = stands.pop("waiting_token")
    assert 0 < stands.pop("poll_after_ms") <= 2000
    assert 0 <= stands.pop("waiting_time") < 60
    assert stands == {
        "status": "ready",
        "position": 1,
        "eta_sec": 0,
        "eta_range_sec": [0, 0],
        "ready_for_entry": True,
        "approximate": False,
    }
    leased = signer.verify_waiting(fresh_token)
    assert (leased.event_id, leased.ticket) == (event, place.ticket)

    entered = await enter(http, fresh_token)
    assert entered.keys() == {"admission", "reservation_token", "ttl_sec"}
    assert (entered["admission"], entered["ttl_sec"]) == ("granted", 30)
    reservation = signer.verify_reservation(entered["reservation_token"])
    assert (reservation.event_id, reservation.ticket) == (event, place.ticket)

    redeemed = await redeem(http, entered["reservation_token"])
    joined_at = datetime.fromisoformat(redeemed.pop("joined_at"))
    granted_at = datetime.fromisoformat(redeemed.pop("granted_at"))
    assert redeemed == {"event_id": event, "user_id": "somebody"}
    assert round(joined_at.timestamp() * 1_000_000) == place.ticket
    assert round(granted_at.timestamp() * 1000) == reservation.issued
    assert joined_at < granted_at


async def test_a_poll_proves_a_lease_on_the_servers_clock(
    http: httpx.AsyncClient, redis: Redis, signer: Signer, event: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    seconds, before = await redis.time()
    leased = signer.verify_waiting((await status(http, token))["waiting_token"])
    after_seconds, after = await redis.time()
    assert seconds * 1000 + before // 1000 <= leased.lease <= after_seconds * 1000 + after // 1000


async def test_somebody_let_in_reads_admitted_and_enters_to_the_same_reservation(
    http: httpx.AsyncClient, event: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    first = await enter(http, token)
    stands = await status(http, token)
    assert (stands["status"], stands["position"], stands["eta_sec"]) == ("admitted", 0, 0)
    assert stands["ready_for_entry"] is False
    again = await enter(http, stands["waiting_token"])
    assert again["reservation_token"] == first["reservation_token"]


async def test_a_reservation_is_redeemed_once_and_its_ticket_enters_no_more(
    http: httpx.AsyncClient, event: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    reservation = (await enter(http, token))["reservation_token"]
    await redeem(http, reservation)
    refused(await try_redeem(http, reservation), 409, "ALREADY_REDEEMED")
    refused(await try_enter(http, token), 409, "ALREADY_REDEEMED")
    assert (await status(http, token))["status"] == "admitted"


async def test_a_redeem_whose_answer_was_lost_can_be_repeated_with_its_key(http: httpx.AsyncClient, event: str) -> None:
    reservation = (await enter(http, (await join(http, event))["waiting_token"]))["reservation_token"]

    async def ask(key: str) -> httpx.Response:
        body = {"reservation_token": reservation}
        return await http.post("/api/v1/queue/redeem", json=body, headers={"Idempotency-Key": key})

    refused(await ask("too short"), 400, "INVALID_REQUEST")
    first = await ask("order-4711-attempt")
    assert first.status_code == 200
    assert (await ask("order-4711-attempt")).json() == first.json()
    refused(await ask("order-4712-attempt"), 409, "ALREADY_REDEEMED")
    refused(await try_redeem(http, reservation), 409, "ALREADY_REDEEMED")


async def test_a_lapsed_reservation_is_refused_and_the_same_ticket_gets_another(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, rate=0, burst=1, pass_ttl=0.001)
    token = (await join(http, event))["waiting_token"]
    lapsed = await enter(http, token)
    assert lapsed["ttl_sec"] == 1
    refused(await try_redeem(http, lapsed["reservation_token"]), 404, "RESERVATION_EXPIRED")
    # A lost reply costs nobody their turn, and no second token of the bucket, which holds none.
    another = await enter(http, token)
    assert another["reservation_token"] != lapsed["reservation_token"]
    await configure(http, event, pass_ttl=30)
    refused(await try_redeem(http, lapsed["reservation_token"]), 404, "RESERVATION_EXPIRED")
    assert (await redeem(http, another["reservation_token"]))["event_id"] == event


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_people_who_leave_are_gone_however_often_they_say_so(
    http: httpx.AsyncClient, event: str, method: str
) -> None:
    token = (await join(http, event))["waiting_token"]
    behind = (await join(http, event))["waiting_token"]
    assert (await status(http, behind))["position"] == 2
    for _ in range(3):
        answer = await leave(http, token, method)
        assert (answer.status_code, answer.json()) == (200, {"status": "left"})
    refused(await try_status(http, token), 404, "TOKEN_EXPIRED")
    refused(await try_enter(http, token), 404, "TOKEN_EXPIRED")
    assert (await status(http, behind))["position"] == 1


async def test_leaving_cancels_a_reservation_that_nobody_redeemed(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    reservation = (await enter(http, token))["reservation_token"]
    await leave(http, token)
    refused(await try_redeem(http, reservation), 404, "RESERVATION_EXPIRED")
    refused(await try_enter(http, token), 404, "TOKEN_EXPIRED")


async def test_leaving_after_the_redeem_changes_nothing(http: httpx.AsyncClient, event: str) -> None:
    token = (await join(http, event))["waiting_token"]
    reservation = (await enter(http, token))["reservation_token"]
    await redeem(http, reservation)
    assert (await leave(http, token)).json() == {"status": "left"}
    refused(await try_redeem(http, reservation), 409, "ALREADY_REDEEMED")


async def test_the_token_of_an_event_that_has_ended_has_expired(
    http: httpx.AsyncClient, signer: Signer, event: str
) -> None:
    token = signer.waiting(event, 1_700_000_000_000_000)
    refused(await try_status(http, token), 404, "TOKEN_EXPIRED")
    refused(await try_enter(http, token), 404, "TOKEN_EXPIRED")
    assert (await leave(http, token)).json() == {"status": "left"}
    refused(await try_redeem(http, signer.reservation(event, 1_700_000_000_000_000, 1)), 404, "RESERVATION_EXPIRED")


async def test_a_redeem_names_the_label_of_the_join_or_nobody(http: httpx.AsyncClient, event: str) -> None:
    for label, told in ((None, None), ("", None), ("x" * 128, "x" * 128), ("대기 \0 줄\n", "대기 \0 줄\n")):
        token = (await join(http, event, label=label))["waiting_token"]
        reservation = (await enter(http, token))["reservation_token"]
        assert (await redeem(http, reservation))["user_id"] == told
