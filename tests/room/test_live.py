"""The room's stream: what /place says, as soon as it changes, for the place in the visitor's cookie."""

import asyncio

import httpx
from redis.asyncio import Redis

from tests.gate.conftest import Declare, NewVisitor, declare, new_visitor, site_api
from tests.room.test_visits import CLOSED, act
from tests.support.listening import listeners, listening
from tests.support.refusals import refused
from tests.support.visits import SIGNER, visit_room, waiting_cookie

__all__ = ["declare", "new_visitor", "site_api"]


def live(event: str) -> str:
    """Where the page listens."""
    return f"/waiting-room/{event}/live?next=/checkout"


async def joined(visitor: httpx.AsyncClient, event: str) -> str:
    """Joins by the page's script; the waiting token in the cookie."""
    await visitor.get(f"/waiting-room/{event}?next=/checkout")
    assert (await act(visitor, event, "join")).status_code == 202
    (token,) = (value for name, value in visitor.cookies.items() if name.startswith("daegi_w_"))
    return token


async def test_it_says_what_place_says_and_renews_the_cookie(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(**CLOSED)
    first, second = new_visitor(), new_visitor()
    await joined(first, event)
    token = await joined(second, event)
    async with listening(second, path=live(event)) as stream:
        told = (await stream.next()).data
        place = (await act(second, event, "place")).json()
        differs = {"waiting_token", "poll_after_ms", "waiting_time"}
        assert {name: told[name] for name in told.keys() - differs} == {
            name: place[name] for name in place.keys() - differs
        }
        renewed = stream.answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert renewed == told["waiting_token"] != token
        assert SIGNER.verify_waiting(renewed).ticket == SIGNER.verify_waiting(token).ticket
        await declare(paused=True)
        assert (await stream.until(state="paused"))["people"] == 1
        await declare(paused=False)
        await act(first, event, "leave")
        await stream.until(state="waiting", people=0)
        await declare(rate=10, burst=10)
        await stream.until(state="ready")
        # Another tab goes in.
        await act(second, event, "enter")
        (last,) = await stream.rest()
        assert last.data["status"] == "admitted"
    # And whoever listens with a pass alone is told where to go.
    async with listening(second, path=live(event)) as stream:
        assert [told.data for told in await stream.rest()] == [{"location": "/checkout"}]
        # With a pass whose time the gate knows: else they would be sent back to the room.
        name, _, value = stream.answer.headers["set-cookie"].partition(";")[0].partition("=")
        assert name.startswith("daegi_p_")
        assert SIGNER.verify_pass(value).ticket == SIGNER.verify_waiting(token).ticket


async def test_it_says_when_the_site_is_full_and_when_it_is_not(
    declare: Declare, new_visitor: NewVisitor, event: str
) -> None:
    await declare(rate=0.001, burst=1, max_active=1)
    inside, visitor = new_visitor(), new_visitor()
    assert (await visit_room(inside, event)).headers["location"] == "/checkout"
    await joined(visitor, event)
    async with listening(visitor, path=live(event)) as stream, asyncio.timeout(20):
        await stream.until(state="full", people=0)
        # Nothing else changes for them: the bucket is empty.
        await declare(max_active=2)
        await stream.until(state="waiting", people=0)
        await declare(max_active=1)
        await stream.until(state="full", people=0)


async def test_who_has_no_place_is_refused(declare: Declare, new_visitor: NewVisitor, redis: Redis, event: str) -> None:
    visitor = new_visitor()
    refused(await visitor.get(live("never-declared")), 404, "EVENT_NOT_FOUND")
    await declare(**CLOSED)
    other = new_visitor()
    token = await joined(other, event)
    await act(other, event, "leave")
    async with httpx.AsyncClient(base_url=str(visitor.base_url)) as stranger:

        async def asked(cookie: str) -> httpx.Response:
            return await stranger.get(live(event), headers={"Cookie": cookie} if cookie else {})

        refused(await asked(""), 400, "MISSING_TOKEN")
        refused(await asked(waiting_cookie(event, "nonsense")), 400, "INVALID_TOKEN")
        refused(await asked(waiting_cookie(event, token)), 404, "TOKEN_EXPIRED")
        refused(await asked(waiting_cookie(event, SIGNER.waiting("elsewhere", 1))), 400, "INVALID_TOKEN")
        refused(await stranger.get(f"/waiting-room/{event}/live?next=//evil"), 400, "INVALID_REQUEST")


async def test_head_opens_none(declare: Declare, new_visitor: NewVisitor, event: str) -> None:
    await declare(**CLOSED)
    visitor = new_visitor()
    await joined(visitor, event)
    before = await listeners(visitor)
    answer = await visitor.head(live(event))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert await listeners(visitor) == before
