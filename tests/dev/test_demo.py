"""`make demo` works as a newcomer would use it, and Ctrl-C leaves nothing behind."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.demo.__main__ import PROXIES
from tests.proxies.proxy import Proxy
from tests.support.paths import ROOT


@pytest.fixture(params=list(PROXIES))
def demo(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """It runs behind each of its proxies."""
    kind = PROXIES[request.param]
    if issubclass(kind, Proxy) and not kind.is_installed():
        pytest.skip(f"{request.param} is not installed: apt-get install {request.param}")
    command = [sys.executable, "-m", "tests.demo", "--crowd", "12", "--proxy", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        yield process
        # Also after a failure: it ends what it has started.
        process.terminate()


def test_a_newcomer_waits_and_comes_in_and_ctrl_c_ends_all_of_it(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    url = next(found[0] for line in demo.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/$", line.strip())))
    family = psutil.Process(demo.pid).children(recursive=True)
    navigation = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    with httpx.Client(base_url=url, headers=navigation, follow_redirects=True, trust_env=False) as browser:
        page = browser.get("/checkout?item=1")
        assert page.url.path == "/waiting-room/demo"
        assert "big sale" in page.text

        browser.post(f"{page.url.path}/join", params={"next": "/checkout?item=1"})
        deadline = time.monotonic() + 60
        # Without JavaScript the page is asked for again and again, until it leads on.
        while page.url.path != "/checkout":
            assert time.monotonic() < deadline, page.text
            time.sleep(0.5)
            page = browser.get("/waiting-room/demo", params={"next": "/checkout?item=1"})
        assert page.url.raw_path == b"/checkout?item=1"
        assert "<h1>You are in</h1>" in page.text
        assert browser.post("/buy").status_code == 200

    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 0
    assert family
    assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
