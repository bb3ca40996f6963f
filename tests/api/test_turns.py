"""Not yet their turn: 403 with a place and a time to come back, and the answers while nobody is let in."""

import asyncio

import httpx
import pytest

from tests.support.calls import configure, enter, join, status, try_enter, try_status
from tests.support.refusals import refused, retry_after

pytestmark = pytest.mark.usefixtures("redis")


async def test_people_who_are_not_called_yet_learn_their_place_and_when_to_come_back(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, rate=0.01, burst=2)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(5)]
    answer = await try_enter(http, tokens[4])
    error = refused(answer, 403, "NOT_READY")
    assert error["position"] == 5
    assert 0 < error["poll_after_ms"] <= 37_500
    assert retry_after(answer) == -(-error["poll_after_ms"] // 1000)
    assert (await enter(http, tokens[0]))["admission"] == "granted"


async def test_people_are_called_in_order_and_only_as_many_as_there_are_tokens(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, rate=0.01, burst=2)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(5)]
    stands = [await status(http, token) for token in reversed(tokens)][::-1]
    assert [one["position"] for one in stands] == [1, 2, 3, 4, 5]
    assert [one["status"] for one in stands] == ["ready", "ready", "waiting", "waiting", "waiting"]
    assert [one["ready_for_entry"] for one in stands] == [True, True, False, False, False]
    answers = await asyncio.gather(*(try_enter(http, token) for token in tokens))
    assert [answer.status_code for answer in answers] == [200, 200, 403, 403, 403]
    # With the tokens gone, the third is still called before the fourth.
    await configure(http, event, rate=0.01, burst=3)
    assert (await status(http, tokens[3]))["position"] == 2
    assert (await status(http, tokens[2]))["position"] == 1


async def test_the_eta_is_the_number_of_people_ahead_at_the_configured_rate(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, rate=0.5, burst=2)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(22)]
    assert (await status(http, tokens[0]))["eta_sec"] == 0
    last = await status(http, tokens[-1])
    assert last["position"] == 22
    # At most 22 people; those whom the burst lets in at once, and those who were called meanwhile, need no wait.
    assert 20 <= last["eta_sec"] <= 44
    low, high = last["eta_range_sec"]
    assert 0 < low < last["eta_sec"] < high


async def test_while_nobody_is_let_in_there_is_no_eta(http: httpx.AsyncClient, event: str) -> None:
    await configure(http, event, rate=0, burst=1)
    first, second = [(await join(http, event))["waiting_token"] for _ in range(2)]
    stands = await status(http, second)
    assert (stands["eta_sec"], stands["eta_range_sec"]) == (None, None)
    stands = await status(http, first)
    assert (stands["eta_sec"], stands["eta_range_sec"]) == (0, [0, 0])
    await configure(http, event, rate=1, paused=True)
    stands = await status(http, second)
    assert (stands["status"], stands["eta_sec"], stands["ready_for_entry"]) == ("waiting", None, False)
    # Nobody should be late when it goes on.
    assert stands["poll_after_ms"] <= 10_000
    await configure(http, event, paused=False)
    assert (await status(http, second))["eta_sec"] is not None


async def test_in_a_pause_the_front_comes_as_often_as_ever_and_nobody_more_seldom_than_every_10_s(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, rate=0.5, burst=1)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(60)]
    await configure(http, event, paused=True)
    front, middle, back = [(await status(http, tokens[place]))["poll_after_ms"] for place in (1, 10, 59)]
    assert front <= 2000 < middle < back <= 10_000
    refusal = refused(await try_enter(http, tokens[1]), 403, "EVENT_PAUSED")
    assert refusal["poll_after_ms"] <= 2000
    # Without a rate nobody's turn comes, also once it goes on.
    await configure(http, event, rate=0)
    assert 2000 < (await status(http, tokens[10]))["poll_after_ms"] <= 10_000


@pytest.mark.parametrize("closed", [{"rate": 0.001}, {"rate": 0}, {"paused": True}])
async def test_the_first_five_notice_at_once_when_the_door_opens(
    http: httpx.AsyncClient, event: str, closed: dict[str, object]
) -> None:
    await configure(http, event, rate=0, burst=1)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(8)]
    await enter(http, tokens[0])
    await configure(http, event, **closed)
    waits = [(await status(http, token))["poll_after_ms"] for token in tokens[1:]]
    assert max(waits[:5]) <= 2000 < min(waits[5:])


async def test_a_paused_event_lets_nobody_in_not_even_people_who_were_called(
    http: httpx.AsyncClient, event: str
) -> None:
    called, other = [(await join(http, event))["waiting_token"] for _ in range(2)]
    assert (await status(http, called))["ready_for_entry"] is True
    await configure(http, event, paused=True)
    for position, token in ((1, called), (2, other)):
        answer = await try_enter(http, token)
        error = refused(answer, 403, "EVENT_PAUSED")
        assert error["position"] == position
        assert retry_after(answer) * 1000 >= error["poll_after_ms"] > 0
    assert (await join(http, event))["position_hint"] == 3
    await configure(http, event, paused=False)
    await enter(http, called)


async def test_a_poll_says_when_to_come_back_in_body_and_header(http: httpx.AsyncClient, event: str) -> None:
    await configure(http, event, rate=0.1, burst=1)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(30)]
    waits = []
    for token in (tokens[0], tokens[-1]):
        answer = await try_status(http, token)
        waits.append(answer.json()["poll_after_ms"])
        assert retry_after(answer) == -(-waits[-1] // 1000)
    # At the front within 2 s; far back a quarter of the ETA, at most an eighth of the heartbeat life.
    assert 0 < waits[0] <= 2000
    assert 2000 < waits[1] <= 37_500


async def test_under_a_full_cap_the_first_places_poll_often_though_their_wait_is_long(
    http: httpx.AsyncClient, event: str
) -> None:
    await configure(http, event, max_active=1)
    await enter(http, (await join(http, event))["waiting_token"])
    stands = [await status(http, (await join(http, event))["waiting_token"]) for _ in range(6)]
    assert [one["position"] for one in stands] == [1, 2, 3, 4, 5, 6]
    assert all(one["eta_sec"] >= 300 for one in stands)
    # A session may end before its time.
    assert all(one["poll_after_ms"] <= 2000 for one in stands[:5])
    assert stands[5]["poll_after_ms"] > 2000


async def test_crowds_are_spread_by_jitter(http: httpx.AsyncClient, event: str) -> None:
    await configure(http, event, rate=0.1, burst=1)
    tokens = [(await join(http, event))["waiting_token"] for _ in range(12)]
    assert len({(await status(http, tokens[-1]))["poll_after_ms"] for _ in range(8)}) > 1
