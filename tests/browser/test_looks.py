"""What the live page looks like: in every language, on a small screen, in the dark, with colours of one's own."""

from typing import Any

import pytest

from api.room.texts import LANGUAGES
from tests.browser.conftest import ONE_LOOP, Operator, People

pytestmark = ONE_LOOP

KEYS_LEFT = "() => [...document.querySelectorAll('main, main *')].map((one) => one.textContent).join(' ')"


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_every_language_fits_a_small_screen(people: People, operator: Operator, lang: str) -> None:
    # Five people with ten minutes before them.
    await operator.declare(rate=0.01, burst=1, title="Autumn concert", message="Two tickets a person.")
    await (await (await people.somebody()).tab()).ask_for()
    person = await people.somebody(locale=lang, viewport={"width": 320, "height": 640})
    tab = await person.tab()
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.wait_for_selector("#wait b")
    assert await tab.page.get_attribute("html", "lang") == lang
    await tab.page.click("summary")
    await tab.is_well(f"small-{lang}")
    words = await tab.page.evaluate(KEYS_LEFT)
    for missing in ("undefined", "NaN", "null", "{n}", "{low}", "$"):
        assert missing not in words
    await operator.declare(paused=True)
    await tab.page.reload()
    await tab.sees("paused")
    await tab.is_well(f"small-paused-{lang}")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dark", {"color_scheme": "dark"}),
        ("forced", {"forced_colors": "active"}),
        ("still", {"reduced_motion": "reduce"}),
        ("wide", {"viewport": {"width": 1280, "height": 800}}),
    ],
)
async def test_it_looks_well_as_somebody_likes_it(
    people: People, operator: Operator, name: str, options: dict[str, Any]
) -> None:
    await operator.declare(
        rate=0.01, burst=1, title="Autumn concert", message="Two tickets a person.", accent="#0a7cff"
    )
    await (await (await people.somebody()).tab()).ask_for()
    tab = await (await people.somebody(**options)).tab()
    await tab.ask_for()
    await tab.page.wait_for_selector("#wait b")
    await tab.is_well(name)
    if name == "still":
        moving = "() => document.getAnimations().filter((one) => one.playState === 'running').length"
        assert await tab.page.evaluate(moving) == 0


async def test_nothing_jumps_when_the_place_arrives(people: People, operator: Operator) -> None:
    # Nobody is let in: few words become many.
    await operator.declare(rate=0, burst=0, title="Autumn concert", message="Two tickets a person.")
    person = await people.somebody(viewport={"width": 390, "height": 800})
    tab = await person.tab()
    await tab.page.add_init_script(
        """window.shifts = [];
        new PerformanceObserver((list) => shifts.push(...list.getEntries().map((one) => one.value)))
          .observe({ type: "layout-shift", buffered: true });"""
    )
    await tab.ask_for()
    await tab.sees("waiting")
    await tab.page.wait_for_timeout(300)
    # What Web Vitals call good.
    assert await tab.page.evaluate("shifts.reduce((all, one) => all + one, 0)") < 0.1
