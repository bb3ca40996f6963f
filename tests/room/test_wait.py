"""The wait as a range: true to the range in seconds, and the same in the page's script."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.room.pages import Page, render
from api.room.texts import LANGUAGES, texts_in
from api.room.wait import Wait, rounded
from tests.support.paths import ROOT

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")

SECONDS = {"minutes": 60, "hours": 3600, "days": 86_400}
ENDS = [*range(0, 300, 7), 300, 600, 900, 1199, 1200, 2400, 3599, 3600, 7200, 8640, 8641, 14_400, 86_400, 10**6]
RANGES = [(low, low + more) for low in ENDS for more in (0, 1, 59, 200, low // 5, 2 * low, 20_000, 300_000)]


@pytest.mark.parametrize(
    ("low", "high", "wait"),
    [
        (0, 0, Wait("minutes", 0, 1)),
        (41, 60, Wait("minutes", 0, 1)),
        (51, 75, Wait("minutes", 0, 2)),
        (61, 75, Wait("minutes", 1, 2)),
        (255, 375, Wait("minutes", 4, 7)),
        (1020, 1500, Wait("minutes", 15, 25)),
        (3060, 4500, Wait("minutes", 50, 80)),
        (6120, 9000, Wait("minutes", 100, 150)),
        (9180, 13_500, Wait("hours", 2, 4)),
        (73_440, 108_000, Wait("hours", 20, 30)),
        (26_805_600, 39_420_000, Wait("days", 310, 457)),
        # Very wide.
        (240, 2000, Wait("minutes", 0, 35)),
        (2400, 10_860, Wait("hours", 0, 4)),
        (72_000, 180_000, Wait("days", 0, 3)),
    ],
)
def test_a_long_wait_is_told_less_finely(low: int, high: int, wait: Wait) -> None:
    assert rounded(low, high) == wait


@given(st.floats(0, 31_536_000), st.floats(1, 30))
def test_the_range_that_is_told_holds_the_range_in_seconds(low: float, factor: float) -> None:
    wait = rounded(low, low * factor)
    unit = SECONDS[wait.unit]
    assert wait.high * unit >= low * factor
    assert 0 <= wait.low * unit <= low


@needs_node
@pytest.mark.parametrize(
    ("promised", "low", "high", "told"),
    [
        (None, 100, 200, (100, 200, 200, False)),
        # Better.
        (300, 100, 200, (100, 200, 200, False)),
        (300, 0, 0, (0, 0, 0, False)),
        # It slips, but may still be kept.
        (300, 250, 1000, (250, 300, 300, False)),
        (300, 300, 301, (300, 300, 300, False)),
        # It cannot be kept, by so little that it is no news, or only once it adds up.
        (300, 301, 360, (301, 360, 300, False)),
        (-500, 10, 20, (10, 20, 20, True)),
        (300, 301, 361, (301, 361, 361, True)),
    ],
)
def test_a_promise_is_kept_while_the_new_range_reaches_down_to_it_and_renewed_when_it_slips(
    promised: int | None, low: int, high: int, told: tuple[int, int, int, bool]
) -> None:
    """All in s from now."""
    program = """
        import { renewed } from "./room.mjs";
        const now = 1e12;
        const { promised, range } = JSON.parse(input);
        const told = renewed(promised === null ? null : now + promised * 1000, range, now);
        const seconds = (time) => (time - now) / 1000;
        console.log(JSON.stringify([seconds(told.low), seconds(told.high), seconds(told.promised), told.late]));
    """
    assert tuple(_run(program, {"promised": promised, "range": [low, high]})) == told


@needs_node
def test_the_script_says_what_the_server_says() -> None:
    """Waits, numbers, plurals: for the first view by the server, from then on by the script."""
    crowds = [0, 1, 2, 999, 1000, 12_345, 1_000_000]
    asked = {
        "ranges": RANGES,
        "people": crowds,
        "texts": [json.loads((ROOT / f"api/room/texts/{name}.json").read_text()) for name in LANGUAGES],
    }
    program = """
        import { rounded, speaker } from "./room.mjs";
        const { ranges, people, texts } = JSON.parse(input);
        const waits = ranges.map(([low, high]) => rounded(low, high));
        console.log(JSON.stringify(texts.map(speaker).map((say) => [
          waits.map((wait) => say.wait(wait))
            .map((told) => [told.short, told.before + told.number + told.after, told.sentence]),
          people.map((n) => [say.ahead(n, false), say.ahead(n, true), say.place(n, true)]),
        ])));
    """
    for name, (waits, places) in zip(LANGUAGES, _run(program, asked), strict=True):
        for (low, high), (short, seen, heard) in zip(RANGES, waits, strict=True):
            page = _page(name, eta_low_s=low, eta_high_s=high)
            assert f"<title>{escape(short)} · " in page
            wait = page.partition('<p id="wait">')[2].partition("</p>")[0]
            assert (_seen(wait), _heard(wait)) == (seen, heard), (name, low, high)
        for people, (exact, about, place) in zip(crowds, places, strict=True):
            assert f'<p id="ahead">{exact}</p>' in _page(name, people=people)
            assert f'<p id="ahead">{about}</p>' in _page(name, people=people, approximate=True)
            assert f'<dd id="place">{place}</dd>' in _page(name, position=people, approximate=True) or people == 0


def _run(program: str, given: object) -> Any:
    """What a program with the page's script writes, as JSON; `input` is what it is given."""
    module = (ROOT / "api/room/assets/room.js").read_text()
    program = program.replace('from "./room.mjs"', f"from {json.dumps('data:text/javascript,' + quote(module))}")
    read = 'let input = ""; for await (const piece of process.stdin) input += piece;'
    ran = subprocess.run(
        ["node", "--input-type=module", "-e", f"{read}\n{program}"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def _page(name: str, **changes: object) -> str:
    """A page of somebody who waits."""
    people = changes.pop("people", None)
    known = {"people_ahead": people, "position": 1} if people is not None else {}
    fields = {"state": "waiting", "base": "/waiting-room/shop"}
    return render(msgspec.convert({**fields, **known, **changes}, Page), texts_in(name)).decode()


def _seen(html: str) -> str:
    return unescape(re.sub(r"<.*?>", "", re.sub(r'<span class="spoken">.*?</span>', "", html)))


def _heard(html: str) -> str:
    return unescape(re.sub(r"<.*?>", "", re.sub(r'<b aria-hidden="true">.*?</b>', "", html)))
