"""The README's session, typed as printed beside `make run`, answers as printed."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from api.contract.errors import MEANINGS
from api.contract.routes import OPERATIONS
from shared.dev.redis_server import LOCALHOST, PORTS, is_free
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()


@pytest.fixture
def port() -> Iterator[int]:
    """The stack of `make run` on a free port, ended as Ctrl-C ends it."""
    port = next(port for port in PORTS[os.getpid() % 5000 :] if is_free(port))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
    if server := os.environ.get("DAEGI_REDIS_SERVER"):
        environment["DAEGI_REDIS_SERVER"] = server
    stack = subprocess.Popen(
        [sys.executable, "-m", "shared.dev", sys.executable, "-m", "honcho", "start"],
        cwd=ROOT,
        env=environment | {"DAEGI_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_ready(port)
        yield port
    finally:
        stack.send_signal(signal.SIGINT)
        stack.wait(30)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://{LOCALHOST}:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _without_what_differs(text: str) -> str:
    """Tokens, numbers and times differ from run to run; names, order and everything else do not."""
    text = re.sub(r"[wr]~concert~[0-9~]+~[A-Za-z0-9_-]{22}", "TOKEN", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r'("poll_after_ms"):\d+', r"\1:N", text)


def test_the_session_answers_as_printed(port: int) -> None:
    found = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert found
    session = found[1]
    commands = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
    printed = [line for line in session.splitlines() if not line.startswith("$ ")]
    assert len(commands) >= 4
    script = "\n".join(commands).replace(":8000", f":{port}")
    answers = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, text=True, timeout=30, check=True).stdout
    assert [_without_what_differs(line) for line in answers.splitlines()] == [
        _without_what_differs(line) for line in printed
    ]


def test_it_names_the_two_commands_on_its_first_screen() -> None:
    first_screen = README.splitlines()[:25]
    assert any("make run" in line for line in first_screen)
    assert any("make test" in line for line in first_screen)


def test_its_table_has_every_path_and_no_code_that_there_is_not() -> None:
    section = README.partition("## HTTP\n")[2].partition("\n## ")[0]
    assert {one.path.removesuffix("{rest*}") for one in OPERATIONS} - set(
        re.findall(r"/[a-z0-9/_{}.-]+", section)
    ) == set()
    codes = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", section))
    assert {code for code in codes if not code.startswith("DAEGI_")} - MEANINGS.keys() == set()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
