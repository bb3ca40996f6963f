"""Looks at every state of the page in headless Chromium: `make look`.

Fails on console errors, CSP violations, text that is cut or wider than its window, and whatever axe finds. Leaves
pictures in tests/room/screenshots/ for people to look at.
"""

import shutil
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

from api.room.texts import LANGUAGES
from tests.room.preview import STATES, PreviewServer
from tests.support.chromium import AXE, AXE_RUN, CHROMIUM, CUT, FLAGS
from tests.support.paths import ROOT

PICTURES = ROOT / "tests" / "room" / "screenshots"


class View(NamedTuple):
    """How somebody looks at it."""

    name: str
    width: int = 1280
    height: int = 800
    dark: bool = False
    forced: bool = False
    still: bool = False
    script: bool = True
    query: str = ""


VIEWS = (
    View("desktop"),
    View("dark", dark=True),
    View("narrow", 320, 640),
    View("forced", 390, 800, forced=True),
    View("plain", 390, 800, script=False, still=True),
    View("long", 320, 640, query=f"&title={'Donaudampfschiff' * 6}&message={'x' * 200}"),
    View("accent", 390, 800, query="&accent=fff200&logo=/logo.svg"),
)


def main() -> None:
    """Look at everything, and exit with 1 if something is wrong."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir()
    server = PreviewServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    only = set(sys.argv[1:])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        faults = [
            fault for view in VIEWS if not only or view.name in only for fault in _looked_at(browser, server.url, view)
        ]
        browser.close()
    server.shutdown()
    print(*faults, f"{len(faults)} faults", sep="\n")
    sys.exit(1 if faults else 0)


def _looked_at(browser: Browser, url: str, view: View) -> Iterator[str]:
    context = browser.new_context(
        viewport={"width": view.width, "height": view.height},
        color_scheme="dark" if view.dark else "light",
        forced_colors="active" if view.forced else "none",
        reduced_motion="reduce" if view.still else "no-preference",
        java_script_enabled=view.script,
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    for state in STATES:
        for lang in LANGUAGES:
            page.goto(f"{url}/waiting-room/{state}?lang={lang}{view.query}")
            page.wait_for_timeout(150)
            page.screenshot(path=PICTURES / f"{view.name}-{state}-{lang}.png", full_page=True)
            # Refusals are what these are about, and Chromium calls each an error.
            expected = state in {"unavailable", "busy"}
            for text in [*(said if not expected else ()), *_faults(page, view, lang)]:
                yield f"{view.name} {state} {lang}: {text}"
            said.clear()
    context.close()


def _faults(page: Page, view: View, lang: str) -> list[str]:
    found: list[str] = page.evaluate(CUT)
    # The languages differ in words alone.
    if lang == "en" and view.script:
        page.evaluate(AXE.read_text())
        found += page.evaluate(AXE_RUN)
    return found


if __name__ == "__main__":
    main()
