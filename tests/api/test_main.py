"""`python -m api`: its help, and the one line that reports wrong settings or a port that is taken."""

import os
import socket
import subprocess
import sys

import pytest

from shared.dev.redis_server import LOCALHOST
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.settings import SECRET


def run(*arguments: str, module: str = "api", **settings: str) -> "subprocess.CompletedProcess[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
    given = {f"DAEGI_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=plain | {"DAEGI_PORT": str(free_port())} | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_says_what_it_is_and_where_its_settings_come_from() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert "DAEGI_REDIS_URL" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("TOKEN_SECRETS", "no brackets"),
        ("REDIS_URL", "localhost:6379"),
        ("SENTRY_DSN", "nonsense"),
        ("ADMIN_KEYS", '["short"]'),
    ],
)
def test_a_wrong_setting_ends_it_with_one_line_that_names_it(name: str, value: str) -> None:
    ended = run(**{"ENVIRONMENT": "production", "TOKEN_SECRETS": f'["{SECRET}"]', name: value})
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"DAEGI_{name}: ")
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_ends_it_with_one_line() -> None:
    with socket.create_server((LOCALHOST, free_port())) as taken:
        port = taken.getsockname()[1]
        ended = run(PORT=str(port))
    assert ended.returncode == 1
    assert ended.stderr == f"DAEGI_PORT: {LOCALHOST}:{port} is taken, choose another\n"


def test_an_address_that_is_not_ours_ends_it_with_one_line() -> None:
    # Of the block that documents are written with.
    ended = run(HOST="192.0.2.1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("DAEGI_HOST: cannot listen on 192.0.2.1:")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_KEYS", '["hush-hush", ""]'),
        ("TOKEN_SECRETS", "hush-hush"),
        ("TOKEN_SECRETS", '{"hush-hush": 1}'),
        ("REDIS_URL", "redis://:hush-hush/@localhost:6379"),
    ],
)
def test_a_server_that_starts_the_app_by_its_factory_shows_no_secret_of_a_wrong_setting(name: str, value: str) -> None:
    ended = run("--factory", "api.app:create_app", module="uvicorn", **{name: value})
    assert ended.returncode != 0
    assert f"DAEGI_{name}" in ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
