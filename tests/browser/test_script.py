"""The page's script in a real browser, against answers that are made up."""

from typing import Any

import pytest

from api.room.texts import texts_in
from tests.browser.conftest import LOST, ONE_LOOP
from tests.browser.made_up import PLACE, MadeUpLine, answering, refusing, says, state, until

pytestmark = ONE_LOOP


async def test_it_joins_once_whatever_is_clicked_and_shows_the_place(page: Any) -> None:
    joins = await answering(page, "join", {"status": "waiting"}, 202)
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/left")
    # Faster than a double click, which finds the button gone.
    await page.evaluate(
        "() => { const form = document.getElementById('join'); form.requestSubmit(); form.requestSubmit(); }"
    )
    await state(page, "waiting")
    assert len(joins) == 1
    assert await page.inner_text("#ahead") == "9 people are ahead of you"
    assert await page.title() == "4\u20137 min · Autumn concert"


async def test_a_join_whose_answer_is_lost_is_repeated_with_its_key(page: Any, made_up: MadeUpLine) -> None:
    keys: list[str] = []

    async def lose_the_first(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        await (route.abort() if len(keys) == 1 else route.continue_())

    await page.route("**/join?*", lose_the_first)
    await page.goto("/waiting-room/join")
    await state(page, "unavailable")
    await state(page, "waiting")
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert made_up.calls == [("join", "join")]


async def test_a_lost_connection_is_told_and_the_place_stays(page: Any) -> None:
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/waiting")
    await page.context.set_offline(True)
    await says(page, "trouble", LOST)
    assert await page.is_visible("#wait b")
    await page.context.set_offline(False)
    await says(page, "trouble", "")


@pytest.mark.parametrize("body", ["<html>bad gateway", {"error": {"code": "UNAVAILABLE"}}])
async def test_a_failure_of_ours_or_of_a_proxy_costs_nobody_their_place(page: Any, body: object) -> None:
    await answering(page, "place", body, 503, retry_after="1")
    await page.goto("/waiting-room/join")
    await says(page, "trouble", LOST)
    await answering(page, "place", PLACE)
    await state(page, "waiting")
    await says(page, "trouble", "")


async def test_the_page_follows_what_happens_to_the_line(page: Any) -> None:
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/join")
    for name, headline in (
        ("paused", "The line is paused"),
        ("full", "It is full inside"),
        ("waiting", "You are in line"),
    ):
        await answering(page, "place", {**PLACE, "state": name, "eta_range_sec": None})
        await state(page, name)
        await says(page, "headline", headline)
    await refusing(page, "place", 404, "TOKEN_EXPIRED")
    await state(page, "expired")
    await answering(page, "place", PLACE)
    await page.click("#join button")
    await state(page, "waiting")
    await refusing(page, "place", 404, "EVENT_NOT_FOUND")
    await state(page, "not_found")
    await page.goto("/waiting-room/join")
    await refusing(page, "place", 400, "INVALID_REQUEST")
    await state(page, "bad_link")
    assert await page.get_attribute("a:visible", "href") == "/waiting-room/join"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("", "It is taking longer than expected."),
        ("of a later version", "It is taking longer than expected."),
        *texts_in("en").reasons.items(),
    ],
)
async def test_a_wait_that_grows_by_more_than_its_range_is_told_with_the_reason_and_spoken(
    page: Any, reason: str, words: str
) -> None:
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/join")
    await state(page, "waiting")
    await answering(page, "place", {**PLACE, "eta_range_sec": [850, 1250], "reason": reason})
    await says(page, "trouble", words)
    assert await page.get_attribute("#trouble", "role") == "status"
    await says(page, "spoken", "You are in line: about 10 to 25 minutes")
    # A pause speaks for itself.
    await answering(page, "place", {**PLACE, "state": "paused", "eta_range_sec": None})
    await state(page, "paused")
    await says(page, "trouble", "")


async def test_within_its_range_a_promise_is_kept_and_counts_down(page: Any) -> None:
    await page.clock.install()
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/join")
    await says(page, "wait", "about 4\u201374 to 7 minutes")
    await answering(page, "place", {**PLACE, "eta_range_sec": [350, 500], "reason": "cap"})
    await says(page, "wait", "about 5\u201375 to 7 minutes")
    await answering(page, "place", {**PLACE, "eta_range_sec": [200, 500], "poll_after_ms": 600_000})
    await says(page, "wait", "about 3\u201373 to 7 minutes")
    assert await page.inner_text("#trouble") == ""
    await page.clock.fast_forward("04:00")
    await says(page, "wait", "less than 3 minutes")


async def test_a_room_that_is_full_now_and_then_is_not_spoken_of_each_time(page: Any) -> None:
    await answering(page, "place", {**PLACE, "eta_range_sec": [200, 300]})
    await page.goto("/waiting-room/join")
    await state(page, "waiting")
    await page.evaluate("() => { document.getElementById('spoken').textContent = ''; }")
    for name in ("full", "waiting", "full"):
        await answering(page, "place", {**PLACE, "state": name, "eta_range_sec": [200, 300]})
        await state(page, name)
    assert await page.text_content("#spoken") == ""
    await answering(page, "place", {**PLACE, "state": "full", "eta_range_sec": [850, 1250]})
    await says(page, "spoken", "It is full inside: about 10 to 25 minutes")


async def test_who_is_let_in_leaves_no_page_behind(page: Any) -> None:
    await page.goto("/")
    await answering(page, "place", {**PLACE, "status": "ready", "ready_for_entry": True})
    enters = await answering(page, "enter", {"location": "/inside"})
    await page.goto("/waiting-room/join")
    await page.wait_for_url("**/inside")
    assert len(enters) == 1
    await page.go_back(wait_until="commit")
    assert await page.title() == "Preview"


async def test_not_yet_is_no_end(page: Any) -> None:
    await answering(page, "place", {**PLACE, "status": "ready", "ready_for_entry": True})
    await refusing(page, "enter", 403, "NOT_READY")
    await page.goto("/waiting-room/join")
    await state(page, "waiting")
    await refusing(page, "enter", 409, "ALREADY_REDEEMED")
    await state(page, "expired")


async def test_without_cookies_it_does_not_join_again_and_again(page: Any, made_up: MadeUpLine) -> None:
    await refusing(page, "place", 400, "MISSING_TOKEN")
    await page.goto("/waiting-room/join")
    await state(page, "cookies_off")
    assert made_up.calls == [("join", "join")]


async def test_too_many_joins_wait_for_retry_after(page: Any) -> None:
    joins = await refusing(page, "join", 429, "RATE_LIMITED", retry_after="1")
    await page.goto("/waiting-room/join")
    await state(page, "busy")
    await until(lambda: len(joins) == 2)
    await answering(page, "join", {"status": "waiting"}, 202)
    await state(page, "waiting")


async def test_a_page_that_comes_back_asks_at_once_and_one_that_is_shown_when_it_is_due(page: Any) -> None:
    asked = await answering(page, "place", {**PLACE, "poll_after_ms": 600_000})
    await page.goto("/waiting-room/waiting")
    await page.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await until(lambda: len(asked) == 1)
    await says(page, "ahead", "9 people are ahead of you")
    await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await page.evaluate("() => { Date.now = () => performance.timeOrigin + performance.now() + 601_000 }")
    assert len(asked) == 1
    await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await until(lambda: len(asked) == 2)


async def test_keys_alone_are_enough_to_leave(page: Any, made_up: MadeUpLine) -> None:
    await page.goto("/waiting-room/waiting")
    await page.focus("summary")
    for key in ("Enter", "Tab", "Enter"):
        await page.keyboard.press(key)
    await page.wait_for_url("**/left")
    assert made_up.calls == [("leave", "waiting")]


async def test_notifications_are_asked_for_by_their_button_alone(page: Any) -> None:
    await page.add_init_script(
        "window.asked = 0; Notification.requestPermission = async () => { asked++; return 'granted'; };"
    )
    await answering(page, "place", PLACE)
    await page.goto("/waiting-room/join")
    await state(page, "waiting")
    assert await page.evaluate("() => asked") == 0
    await page.click("#notify")
    await says(page, "notify", "We will notify you")
    assert await page.evaluate("() => asked") == 1
