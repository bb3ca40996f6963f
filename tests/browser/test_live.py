"""A page that listens, against streams that are made up; and when it polls instead."""

from typing import Any

import pytest

from api.http.response import Response
from api.room.texts import LANGUAGES, texts_in
from tests.browser.conftest import LOST, ONE_LOOP, Tab
from tests.browser.made_up import PLACE, MadeUpLine, Stream, answering, holding, refusing, says, state, until

pytestmark = ONE_LOOP

SLOW = {**PLACE, "poll_after_ms": 600_000}
"""The answer to polls where the page is not to ask again by itself."""


@pytest.fixture
def live(made_up: MadeUpLine) -> MadeUpLine:
    """The line, with streams."""
    made_up.refusal = None
    return made_up


async def listening(page: Any, live: MadeUpLine, **place: object) -> Stream:
    """The stream of a page that waits and has heard its place."""
    await page.goto("/waiting-room/waiting")
    stream = await live.stream()
    stream.tell("place", **{"poll_after_ms": 10_000, **place})
    await says(page, "ahead", "9 people are ahead of you")
    return stream


async def polled(page: Any, asked: list[dict[str, str]], ms: int) -> None:
    """Has time pass; returns when a poll was answered. One that is under way while time leaps would be given up."""
    seen = len(asked)
    await page.clock.fast_forward(ms)
    await until(lambda: len(asked) > seen)
    await says(page, "contact", "now")


async def broken(page: Any, stream: Stream) -> None:
    """Ends a stream; returns when the page has noticed: on its clock it must not seem to have lasted."""
    before = await page.evaluate("brokenStreams")
    stream.hang_up()
    await page.wait_for_function("before => brokenStreams > before", arg=before, timeout=20_000)


async def test_a_place_is_told_without_polls(page: Any, live: MadeUpLine) -> None:
    asked = await answering(page, "place", PLACE)
    stream = await listening(page, live)
    # A hidden tab waits on.
    await page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    stream.tell(people=1234, position=1235)
    await says(page, "ahead", "1,234 people are ahead of you")
    stream.tell(state="paused", eta_range_sec=None)
    await state(page, "paused")
    await page.wait_for_timeout(1000)
    assert asked == []
    assert len(live.streams) == 1


async def test_who_joins_listens_and_goes_in_when_told(page: Any, live: MadeUpLine) -> None:
    asked = await answering(page, "place", PLACE)
    enters = await answering(page, "enter", {"location": "/inside"})
    await page.goto("/waiting-room/join")
    stream = await live.stream()
    assert asked
    stream.tell(status="ready", ready_for_entry=True)
    await page.wait_for_url("**/inside")
    assert len(enters) == 1
    await until(stream.is_left)


async def test_a_stream_can_send_somebody_on(page: Any, live: MadeUpLine) -> None:
    stream = await listening(page, live)
    stream.tell(location="/inside")
    await page.wait_for_url("**/inside")


async def test_while_somebody_goes_in_what_is_told_changes_nothing(page: Any, live: MadeUpLine) -> None:
    entered = await holding(page, "enter")
    stream = await listening(page, live)
    stream.tell(status="ready")
    await until(lambda: len(entered) == 1)
    stream.tell(people=7)
    stream.tell(status="ready")
    await page.wait_for_timeout(300)
    await state(page, "ready")
    await entered[0].fulfill(json={"location": "/inside"})
    await page.wait_for_url("**/inside")
    assert len(entered) == 1


async def test_not_yet_is_tried_again(page: Any, live: MadeUpLine) -> None:
    asked = await answering(page, "place", {**PLACE, "status": "ready"})
    enters = await refusing(page, "enter", 403, "NOT_READY")
    stream = await listening(page, live)
    stream.tell(status="ready")
    await until(lambda: len(enters) == 2)
    assert asked


async def test_an_older_answer_to_a_poll_does_not_take_back_what_was_told(page: Any, live: MadeUpLine) -> None:
    held = await holding(page, "place")
    enters = await answering(page, "enter", {"location": "/inside"})
    stream = await listening(page, live)
    await page.evaluate("() => dispatchEvent(new Event('online'))")
    await until(lambda: len(held) == 1)
    stream.tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")
    await held[0].fulfill(json=PLACE)
    await page.wait_for_timeout(300)
    assert await page.inner_text("#ahead") == "5 people are ahead of you"
    await page.evaluate("() => dispatchEvent(new Event('online'))")
    await until(lambda: len(held) == 2)
    # It would otherwise wait for the poll.
    stream.tell(status="ready")
    await page.wait_for_url("**/inside")
    assert len(enters) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Response(503, b"", (("retry-after", "5"),)),
        Response(404, b""),
        Response(200, b"<html>", (("content-type", "text/html"),)),
    ],
)
async def test_where_streams_are_refused_it_polls_and_tries_again_after_a_while(
    page: Any, made_up: MadeUpLine, refusal: Response
) -> None:
    made_up.refusal = refusal
    await page.clock.install()
    asked = await answering(page, "place", {**PLACE, "poll_after_ms": 10_000})
    await page.goto("/waiting-room/join")
    await until(lambda: made_up.refused == 1)
    made_up.refusal = None
    for _ in range(4):
        await polled(page, asked, 20_000)
    assert made_up.streams == []
    await page.clock.fast_forward(70_000)
    stream = await made_up.stream()
    stream.tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")
    assert await page.inner_text("#trouble") != LOST


async def test_a_stream_that_breaks_is_opened_again_and_after_three_times_left_alone(
    page: Any, live: MadeUpLine
) -> None:
    await page.clock.install()
    asked = await answering(page, "place", {**PLACE, "poll_after_ms": 10_000})
    # The clock does not go on before the page has noticed: a stream that lasted counts as none that broke.
    await broken(page, await listening(page, live))
    for number in (2, 3):
        await polled(page, asked, 10_000)
        await broken(page, await live.stream(number))
    for _ in range(4):
        await polled(page, asked, 20_000)
    assert len(live.streams) == 3
    await page.clock.fast_forward(70_000)
    stream = await live.stream(4)
    stream.tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")
    await page.clock.fast_forward(21_000)
    # It was of use: the next time is the first time.
    await broken(page, stream)
    await page.clock.fast_forward(5000)
    await live.stream(5)


async def test_streams_that_tell_a_place_and_break_at_once_are_no_better_than_none(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    await answering(page, "place", {**PLACE, "poll_after_ms": 60_000})
    await page.goto("/waiting-room/waiting")
    for number in (1, 2, 3):
        stream = await live.stream(number)
        stream.tell(people=number)
        await says(page, "ahead", f"{number} {'person is' if number == 1 else 'people are'} ahead of you")
        await broken(page, stream)
        await page.clock.fast_forward(5000)
    # Each of them would have been the first, and everybody back every other second.
    for _ in range(20):
        await page.clock.fast_forward(5000)
        await page.wait_for_timeout(100)
    assert len(live.streams) == 3


async def test_a_stream_that_is_held_back_from_its_beginning_is_left(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    asked = await answering(page, "place", PLACE)
    await page.goto("/waiting-room/waiting")
    stream = await live.stream()
    await page.clock.fast_forward(6000)
    await until(lambda: len(asked) > 2)
    assert await stream.is_kept()
    await page.clock.fast_forward(6000)
    await until(stream.is_left)
    seen = len(asked)
    await until(lambda: len(asked) > seen + 3)
    assert len(live.streams) == 1


async def test_a_stream_that_is_held_back_later_is_left_when_polls_know_more(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    stream = await listening(page, live)
    for people in (8, 7):
        assert await stream.is_kept()
        asked = await answering(page, "place", {**PLACE, "people": people, "position": people + 1})
        await page.clock.fast_forward(60_000)
        await says(page, "ahead", f"{people} people are ahead of you")
    await until(stream.is_left)
    await until(lambda: len(asked) > 3)


async def test_a_line_that_does_not_move_is_looked_after_and_its_stream_kept(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    paused = {"state": "paused", "eta_range_sec": None}
    asked = await answering(page, "place", {**PLACE, **paused, "poll_after_ms": 10_000})
    stream = await listening(page, live, **paused)
    for number in range(1, 5):
        await page.clock.fast_forward(30_000)
        assert len(asked) == number - 1
        await page.clock.fast_forward(20_000)
        await until(lambda: len(asked) == number)  # noqa: B023 - it is awaited here
        await says(page, "contact", "now")
    assert await stream.is_kept()
    stream.tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")


async def test_what_a_poll_finds_a_moment_before_the_stream_tells_it_is_no_fault(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    stream = await listening(page, live)
    for people in (8, 7, 6):
        await answering(page, "place", {**PLACE, "people": people, "position": people + 1})
        await page.clock.fast_forward(60_000)
        await says(page, "ahead", f"{people} people are ahead of you")
        stream.tell(people=people - 0.5, position=people + 1)
        await says(page, "ahead", f"{people - 0.5} people are ahead of you")
    assert await stream.is_kept()


async def test_a_server_that_says_bye_is_asked_again_when_it_said(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    asked = await answering(page, "place", PLACE)
    stream = await listening(page, live)
    await page.clock.fast_forward(15_000)
    await says(page, "contact", "15 seconds ago")
    stream.tell("bye", reason="drain", reconnect_ms=20_000)
    await says(page, "contact", "now")
    await until(stream.is_left)
    await page.clock.fast_forward(15_000)
    assert len(live.streams) == 1
    await page.clock.fast_forward(5000)
    stream = await live.stream(2)
    assert asked == []
    assert await page.inner_text("#trouble") == ""
    # Not here? Polls go on.
    await page.clock.fast_forward(10_000)
    await until(lambda: len(asked) > 3)
    await until(stream.is_left)


async def test_a_place_that_is_gone_is_told(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    asked = await refusing(page, "place", 404, "TOKEN_EXPIRED")
    stream = await listening(page, live)
    stream.tell("gone", error={"code": "TOKEN_EXPIRED"})
    await page.clock.fast_forward(5000)
    await state(page, "expired")
    await until(stream.is_left)
    await page.clock.fast_forward(600_000)
    assert len(asked) == len(live.streams) == 1


async def test_a_place_that_is_gone_because_another_tab_went_in_leads_in(page: Any, live: MadeUpLine) -> None:
    held = await holding(page, "place")
    stream = await listening(page, live)
    stream.tell("gone", error={"code": "TOKEN_EXPIRED"})
    await until(lambda: len(held) == 1)
    await state(page, "waiting")
    await held[0].fulfill(json={"location": "/inside"})
    await page.wait_for_url("**/inside")


async def test_a_poll_that_finds_the_place_gone_ends_the_stream(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    asked = await refusing(page, "place", 404, "TOKEN_EXPIRED")
    stream = await listening(page, live)
    await page.clock.fast_forward(60_000)
    await state(page, "expired")
    await until(stream.is_left)
    await page.clock.fast_forward(600_000)
    assert len(asked) == len(live.streams) == 1


async def test_a_lost_connection_is_told_and_the_page_listens_again_afterwards(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    asked = await answering(page, "place", "<html>bad gateway", 502)
    stream = await listening(page, live)
    live.refusal = Response(502, b"")
    await broken(page, stream)
    await page.clock.fast_forward(5000)
    await says(page, "trouble", LOST)
    await page.clock.fast_forward(30_000)
    await until(lambda: len(asked) == 2)
    # While nothing is answered no stream is tried.
    assert live.refused == 0
    assert await page.is_visible("#wait b")
    assert await page.inner_text("#contact") != "now"
    live.refusal = None
    await answering(page, "place", SLOW)
    await page.clock.fast_forward(60_000)
    await says(page, "trouble", "")
    (await live.stream(2)).tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")


async def test_a_refused_poll_beside_a_stream_that_speaks_is_no_loss(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    await refusing(page, "place", 503, "OVERLOADED", retry_after="30")
    stream = await listening(page, live)
    await page.clock.fast_forward(60_000)
    await says(page, "trouble", LOST)
    stream.tell(people=5)
    await says(page, "trouble", "")
    assert len(live.streams) == 1


async def test_offline_the_stream_is_closed_and_online_opened(page: Any, live: MadeUpLine) -> None:
    asked = await answering(page, "place", SLOW)
    stream = await listening(page, live)
    await page.context.set_offline(True)
    await says(page, "trouble", LOST)
    await until(stream.is_left)
    await page.context.set_offline(False)
    await says(page, "trouble", "")
    (await live.stream(2)).tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")
    assert asked


async def test_who_leaves_the_page_is_forgotten_and_who_comes_back_to_it_is_told_at_once(
    page: Any, live: MadeUpLine
) -> None:
    asked = await answering(page, "place", SLOW)
    stream = await listening(page, live)
    await page.evaluate("() => dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    await until(stream.is_left)
    await page.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await until(lambda: len(asked) == 1)
    stream = await live.stream(2)
    await page.goto("/")
    await until(stream.is_left)


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_in_every_language_each_reason_and_a_wide_range_fit_a_small_screen(
    page: Any, live: MadeUpLine, lang: str
) -> None:
    await page.set_viewport_size({"width": 320, "height": 640})
    reasons = [*texts_in(lang).reasons.items(), ("", texts_in(lang).slower)]
    for number, ((reason, words), high) in enumerate(zip(reasons, (780, 4000, 20_000, 200_000), strict=True), 1):
        await page.goto(f"/waiting-room/waiting?lang={lang}")
        (await live.stream(number)).tell(eta_range_sec=[480, high], reason=reason)
        await says(page, "trouble", words)
        await Tab(page, script=True).is_well(f"slower-{reason or 'unknown'}-{lang}")


async def test_tabs_listen_but_leave_connections_for_others(page: Any, live: MadeUpLine) -> None:
    tabs = [page, *[await page.context.new_page() for _ in range(6)]]
    for number, tab in enumerate(tabs, 1):
        # A browser has six connections to a site over HTTP/1.1.
        asked = await answering(tab, "place", {**PLACE, "people": 100 + number})
        await tab.goto("/waiting-room/paused")
        if number <= 4:
            (await live.stream(number)).tell(people=number + 1)
            await says(tab, "ahead", f"{number + 1} people are ahead of you")
            assert asked == []
    for number, tab in enumerate(tabs[4:], 5):
        await tab.evaluate("() => dispatchEvent(new Event('online'))")
        await says(tab, "ahead", f"{100 + number} people are ahead of you")
    assert len(live.streams) == 4
    await tabs[0].close()
    stream = await live.stream(5)
    stream.tell(people=5)


@pytest.mark.parametrize(
    "locks", ["undefined", "{ request: () => Promise.reject(new DOMException('denied', 'SecurityError')) }"]
)
async def test_where_a_browser_has_no_locks_it_listens(page: Any, live: MadeUpLine, locks: str) -> None:
    await page.add_init_script(f"Object.defineProperty(navigator, 'locks', {{ value: {locks} }})")
    await listening(page, live)


async def test_a_stream_that_is_silent_where_polls_are_not_answered_is_opened_anew(page: Any, live: MadeUpLine) -> None:
    await page.clock.install()
    stream = await listening(page, live)
    await page.route("**/place?*", lambda route: route.abort())
    await page.clock.fast_forward(60_000)
    await says(page, "trouble", LOST)
    await until(stream.is_left)
    await answering(page, "place", SLOW)
    await page.clock.fast_forward(5000)
    (await live.stream(2)).tell(people=5)
    await says(page, "ahead", "5 people are ahead of you")
