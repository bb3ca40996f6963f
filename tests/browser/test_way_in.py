"""How people come in: by themselves, with a friend, in two tabs, without a script."""

import asyncio

import pytest

from tests.browser.conftest import CLOSED, ONE_LOOP, OPEN, Operator, People

pytestmark = ONE_LOOP


async def test_when_nobody_waits_no_page_is_seen(people: People, operator: Operator) -> None:
    await operator.declare(**OPEN)
    tab = await (await people.somebody()).tab()
    await tab.ask_for("/checkout?step=2")
    await tab.is_inside()
    assert tab.page.url.endswith("/checkout?step=2")
    await tab.page.reload()
    await tab.is_inside()
    assert (await operator.totals())["admitted"] == 1


async def test_without_a_script_a_form_and_reloading_lead_in(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(java_script_enabled=False)
    tab = await person.tab()
    await tab.ask_for()
    await tab.sees("join")
    assert (await operator.totals())["joined"] == 0
    await tab.is_well("no-script-join")
    # Both clicks send the form.
    await tab.page.dblclick("#join button")
    await tab.sees("waiting")
    await tab.has_place(1)
    await tab.is_well("no-script-waiting")
    assert (await operator.totals())["joined"] == 1
    await operator.declare(**OPEN)
    await tab.is_inside()
    assert (await operator.totals())["joined"] == 1


async def test_without_a_script_somebody_can_leave(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody(java_script_enabled=False)).tab()
    await tab.ask_for()
    await tab.page.click("#join button")
    await tab.sees("waiting")
    await tab.page.click("summary")
    await tab.page.click("details button")
    await tab.sees("left")
    assert (await operator.totals())["left"] == 1


async def test_two_people_have_two_places_and_go_in_by_themselves(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    first, second = await people.somebody(), await people.somebody()
    tabs = []
    for place, person in enumerate((first, second), 1):
        tabs.append(await person.tab())
        await tabs[-1].ask_for()
        await tabs[-1].sees("waiting")
        await tabs[-1].has_place(place)
    await tabs[0].says("ahead", "You are next")
    await tabs[1].says("ahead", "1 person is ahead of you")
    await tabs[1].is_well("waiting-second")
    # The next is let in after ten seconds.
    await operator.declare(rate=0.1, burst=1)
    await tabs[0].is_inside()
    await tabs[1].has_place(1)
    assert await second.cookie("p") is None
    await tabs[1].page.wait_for_selector("#wait b")
    await operator.declare(**OPEN)
    await tabs[1].is_inside()


async def test_two_tabs_are_one_person_and_both_go_in(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(trouble=True)
    tabs = [await person.tab(), await person.tab()]
    await asyncio.gather(*(tab.ask_for() for tab in tabs))
    for tab in tabs:
        await tab.sees("waiting")
        await tab.has_place(1)
    assert (await operator.totals())["joined"] == 1
    await operator.declare(**OPEN)
    for tab in tabs:
        await tab.is_inside()
    totals = await operator.totals()
    assert (totals["joined"], totals["admitted"]) == (1, 1)


async def test_a_tab_that_was_left_open_does_not_say_that_the_place_is_gone(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    person = await people.somebody(trouble=True)
    tab, other = await person.tab(), await person.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.route("**/place?*", lambda route: route.abort())
    await operator.declare(**OPEN)
    await other.ask_for()
    await other.is_inside()
    await operator.declare(**CLOSED)
    await tab.page.unroute("**/place?*")
    await tab.is_inside()
    assert (await operator.totals())["joined"] == 1


async def test_two_clicks_join_once(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.click("summary")
    await tab.page.click("details button")
    await tab.sees("left")
    await tab.is_well("left")
    await tab.page.dblclick("#join button")
    await tab.sees("waiting")
    await tab.has_place(1)
    totals = await operator.totals()
    assert (totals["joined"], totals["left"]) == (2, 1)


async def test_a_reload_keeps_the_place(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    first, second = await (await people.somebody()).tab(), await (await people.somebody()).tab()
    for tab in (first, second):
        await tab.ask_for()
        await tab.sees("waiting")
    for _ in range(3):
        await second.page.reload()
        await second.sees("waiting")
        await second.has_place(2)
    assert (await operator.totals())["joined"] == 2


async def test_back_and_forward_keep_the_place(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.ask_for("/open")
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.go_back(wait_until="commit")
    assert tab.page.url.endswith("/open")
    await tab.page.go_forward(wait_until="commit")
    await tab.sees("waiting")
    await tab.has_place(1)
    assert (await operator.totals())["joined"] == 1
    await operator.declare(**OPEN)
    await tab.is_inside()
    # The room is no page to go back to.
    await tab.page.go_back(wait_until="commit")
    assert tab.page.url.endswith("/open")


async def test_a_page_out_of_the_back_forward_cache_asks_at_once(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.ask_for()
    await tab.sees("waiting")
    async with tab.page.expect_request("**/place?*", timeout=5_000):
        await tab.page.evaluate("() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")


async def test_keys_alone_are_enough(people: People, operator: Operator) -> None:
    await operator.declare(**CLOSED)
    tab = await (await people.somebody()).tab()
    await tab.ask_for()
    await tab.sees("waiting")

    async def tabbed_to(text: str) -> None:
        for _ in range(8):
            await tab.page.keyboard.press("Tab")
            focused = await tab.page.evaluate("() => document.activeElement.textContent")
            if focused == text:
                outline = await tab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none"
                return
        pytest.fail(f"Tab does not lead to {text!r}")

    await tabbed_to("Leave the line")
    await tab.page.keyboard.press("Enter")
    await tabbed_to("Yes, leave the line")
    await tab.is_well("keyboard-leave")
    await tab.page.keyboard.press("Enter")
    await tab.sees("left")
    await tabbed_to("Join again")
    await tab.page.keyboard.press("Enter")
    await tab.sees("waiting")


async def test_when_it_is_full_whoever_waits_goes_in_as_soon_as_somebody_goes(
    people: People, operator: Operator
) -> None:
    await operator.declare(**OPEN, max_active=1)
    first, second = await people.somebody(), await people.somebody()
    inside, waiting = await first.tab(), await second.tab()
    await inside.ask_for()
    await inside.is_inside()
    await waiting.ask_for()
    await waiting.sees("full")
    await waiting.is_well("full")

    assert (await operator.totals())["admitted"] == 1
    await operator.release(await first.cookie("p"))
    await waiting.is_inside()
    assert (await operator.declare())["active"] == 1
