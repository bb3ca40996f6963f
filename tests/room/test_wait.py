"""The wait as a range: true to the range in seconds, and the same in the page's script."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.room.pages import Page, render
from api.room.texts import LANGUAGES, texts_in
from api.room.wait import Wait, rounded
from tests.support.paths import ROOT

SPREAD = (0.85, 1.25)
SECONDS = {"minutes": 60, "hours": 3600, "days": 86_400}
ETAS = [
    *range(0, 300, 7),
    300,
    600,
    900,
    1199,
    1200,
    2400,
    3599,
    3600,
    7200,
    8640,
    8641,
    14_400,
    86_400,
    10**6,
    31_536_000,
]


def around(eta: float) -> tuple[float, float]:
    """A range such as forecasts have."""
    return eta * SPREAD[0], eta * SPREAD[1]


@pytest.mark.parametrize(
    ("eta", "wait"),
    [
        (0, Wait("minutes", 0, 1)),
        (48, Wait("minutes", 0, 1)),
        (60, Wait("minutes", 1, 2)),
        (300, Wait("minutes", 4, 7)),
        (1200, Wait("minutes", 15, 25)),
        (3600, Wait("minutes", 50, 80)),
        (7200, Wait("minutes", 100, 150)),
        (10_800, Wait("hours", 2, 4)),
        (86_400, Wait("hours", 20, 30)),
        (31_536_000, Wait("days", 310, 457)),
    ],
)
def test_a_long_wait_is_told_less_finely(eta: int, wait: Wait) -> None:
    assert rounded(*around(eta)) == wait


@given(st.floats(0, 31_536_000), st.floats(1, 3))
def test_the_range_that_is_told_holds_the_range_in_seconds(low: float, factor: float) -> None:
    wait = rounded(low, low * factor)
    unit = SECONDS[wait.unit]
    assert wait.high * unit >= low * factor
    assert wait.low * unit <= max(low, unit)
    assert 0 <= wait.low <= wait.high


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_says_what_the_server_says() -> None:
    """Waits, numbers, plurals: for the first view by the server, from then on by the script."""
    asked = {
        "spread": SPREAD,
        "etas": ETAS,
        "people": [0, 1, 2, 999, 1000, 12_345, 1_000_000],
        "texts": [json.loads((ROOT / f"api/room/texts/{name}.json").read_text()) for name in LANGUAGES],
    }
    program = """
        import { rounded, speaker } from "./room.mjs";
        let input = "";
        for await (const piece of process.stdin) input += piece;
        const { spread: [low, high], etas, people, texts } = JSON.parse(input);
        const waits = etas.map((eta) => rounded(eta * low, eta * high));
        console.log(JSON.stringify(texts.map(speaker).map((say) => [
          waits.map((wait) => say.wait(wait))
            .map((told) => [told.short, told.before + told.number + told.after, told.sentence]),
          people.map((n) => [say.ahead(n, false), say.ahead(n, true), say.place(n, true)]),
        ])));
    """
    module = (ROOT / "api/room/assets/room.js").read_text()
    program = program.replace('from "./room.mjs"', f"from {json.dumps('data:text/javascript,' + quote(module))}")
    ran = subprocess.run(
        ["node", "--input-type=module", "-e", program],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    for name, (waits, places) in zip(LANGUAGES, json.loads(ran.stdout), strict=True):
        for eta, (short, seen, heard) in zip(ETAS, waits, strict=True):
            page = _page(name, eta=eta)
            assert f"<title>{escape(short)} · " in page
            wait = page.partition('<p id="wait">')[2].partition("</p>")[0]
            assert (_seen(wait), _heard(wait)) == (seen, heard), (name, eta)
        for people, (exact, about, place) in zip(asked["people"], places, strict=True):
            assert f'<p id="ahead">{exact}</p>' in _page(name, people=people)
            assert f'<p id="ahead">{about}</p>' in _page(name, people=people, approximate=True)
            assert f'<dd id="place">{place}</dd>' in _page(name, position=people, approximate=True) or people == 0


def _page(name: str, **changes: object) -> str:
    """A page of somebody who waits, `eta` s from the door."""
    low, high = around(float(str(changes.pop("eta", 300))))
    people = changes.pop("people", None)
    known = {"people_ahead": people, "position": 1} if people is not None else {}
    fields = {"state": "waiting", "base": "/waiting-room/shop", "eta_low_s": low, "eta_high_s": high}
    return render(msgspec.convert({**fields, **known, **changes}, Page), texts_in(name)).decode()


def _seen(html: str) -> str:
    return unescape(re.sub(r"<.*?>", "", re.sub(r'<span class="spoken">.*?</span>', "", html)))


def _heard(html: str) -> str:
    return unescape(re.sub(r"<.*?>", "", re.sub(r'<b aria-hidden="true">.*?</b>', "", html)))
