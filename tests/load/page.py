"""What the waiting page costs a visitor: `python -m tests.load.page` (needs Chromium and playwright, see `make look`).

A real Chromium with an empty cache opens the room of an event that lets nobody in, on an api of its own: once as it is,
and once as Lighthouse measures phones (its "mobile" settings: a CPU 4 times slower, 150 ms round trips, 1.6 Mbit/s).

    bytes     over the wire, headers included; of the room's redirect for its cookie, too
    paint     first contentful paint, in ms since the address was entered, both redirects included
    largest   largest contentful paint, likewise
    loaded    the load event, likewise
    script    ms of JavaScript until then, and for 10 s of waiting after it
    layout    ms of layout and style until then
    shift     cumulative layout shift, until 10 s after it
"""

import json
import sys
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, CDPSession, sync_playwright

from shared.dev.redis_server import RedisServer
from tests.support.chromium import CHROMIUM, FLAGS
from tests.support.processes import Api
from tests.support.settings import OPERATOR

ROUNDS: Final = 5
WAITING: Final = 10.0
MOBILE: Final = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}

_WATCH = """() => {
  window.seen = { largest: 0, shift: 0 };
  new PerformanceObserver((list) => { seen.largest = list.getEntries().at(-1).startTime; })
    .observe({ type: "largest-contentful-paint", buffered: true });
  new PerformanceObserver((list) => { for (const one of list.getEntries()) seen.shift += one.value; })
    .observe({ type: "layout-shift", buffered: true });
}"""
_READ = """() => ({
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  loaded: performance.getEntriesByType("navigation")[0].loadEventEnd,
  ...window.seen,
})"""


def visit(browser: Browser, url: str, *, mobile: bool) -> dict[str, float]:
    """One visit with an empty cache; ms and bytes by name."""
    context = browser.new_context(viewport={"width": 390, "height": 800} if mobile else None)
    page = context.new_page()
    client = context.new_cdp_session(page)
    received: list[float] = []
    client.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    client.on("Network.requestWillBeSent", lambda event: received.append(_of_redirect(event)))
    client.send("Network.enable")
    client.send("Performance.enable")
    if mobile:
        client.send("Network.emulateNetworkConditions", MOBILE)
        client.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(url, wait_until="load")
    page.wait_for_timeout(500)
    page.evaluate(_WATCH)
    at_load, bytes_at_load = _metrics(client), sum(received)
    page.wait_for_timeout(WAITING * 1000)
    after, found = _metrics(client), page.evaluate(_READ)
    context.close()
    return {
        "bytes": bytes_at_load,
        "paint": found["paint"],
        "largest": found["largest"],
        "loaded": found["loaded"],
        "script": at_load["ScriptDuration"] * 1000,
        "script while waiting": (after["ScriptDuration"] - at_load["ScriptDuration"]) * 1000,
        "layout": (at_load["LayoutDuration"] + at_load["RecalcStyleDuration"]) * 1000,
        "shift": found["shift"],
    }


def _of_redirect(event: dict[str, Any]) -> float:
    answer = event.get("redirectResponse")
    return float(answer["encodedDataLength"]) if answer else 0.0


def _metrics(client: CDPSession) -> dict[str, float]:
    return {one["name"]: one["value"] for one in client.send("Performance.getMetrics")["metrics"]}


def main() -> int:
    """Prints the medians; returns 2 without Chromium."""
    if CHROMIUM is None:
        print("needs Chromium on PATH: apt-get install chromium", file=sys.stderr)
        return 2
    with RedisServer() as redis, Api(redis.url, admin_keys=json.dumps(["an-admin-key-of-the-tests"])) as api:
        closed = {"rate": 0, "burst": 0, "title": "Autumn concert"}
        httpx.put(f"{api.url}/api/v1/admin/events/page", json=closed, headers=OPERATOR).raise_for_status()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
            for mobile in (False, True):
                rounds = [visit(browser, f"{api.url}/waiting-room/page", mobile=mobile) for _ in range(ROUNDS)]
                print(f"{'as a phone' if mobile else 'as it is'}, medians of {ROUNDS} visits:")
                for name in rounds[0]:
                    middle = sorted(one[name] for one in rounds)[ROUNDS // 2]
                    print(f"  {name:22} {middle:10,.3f}" if name == "shift" else f"  {name:22} {middle:10,.0f}")
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
