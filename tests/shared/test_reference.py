"""`python -m shared.settings` tells of every setting, and whatever else names one means one that is there."""

import os
import re
import subprocess
import sys

import pytest

from shared.settings import DEVELOPMENT_SECRET, Settings, load_settings
from shared.settings.__main__ import rows
from tests.support.paths import ROOT

OTHERS = {"DAEGI_REDIS_SERVER"}
"""Of the launcher and the tests, which start a redis-server of their own."""


def run(*arguments: str, **settings: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
    command = [sys.executable, "-m", "shared.settings", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=plain | settings, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout


def test_it_prints_a_line_for_every_setting_and_shows_no_secret() -> None:
    # Also where the settings are not sound yet: that is when they are looked up.
    printed = run(DAEGI_PORT="eighty")
    lines = [re.split(r" {2,}", line) for line in printed.splitlines()]
    assert [line[0] for line in lines] == [f"DAEGI_{name.upper()}" for name in Settings.model_fields]
    assert ["DAEGI_PORT", "integer 1 to 65,535", "8000", "Port the api listens on"] in lines
    assert DEVELOPMENT_SECRET not in printed
    assert next(line for line in lines if line[0] == "DAEGI_TOKEN_SECRETS")[1:3] == ["JSON list of secrets", "*" * 10]


def test_in_markdown_it_is_a_table() -> None:
    head, rule, *lines = run("--markdown").splitlines()
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, *lines)]
    assert set(columns) == {5}
    assert len(lines) == len(Settings.model_fields)
    assert "| `DAEGI_PROCESSES` | integer 1 to 256 | `1` | Api processes on that port |" in lines


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_every_setting_has_a_meaning_and_the_default_that_it_says(
    monkeypatch: pytest.MonkeyPatch, row: tuple[str, str, str, str]
) -> None:
    name, kind, default, meaning = row
    assert meaning[0].isupper()
    assert not meaning.endswith(".")
    if default and "secret" not in kind:
        plain = load_settings()
        monkeypatch.setenv(name, default)
        assert load_settings() == plain


@pytest.mark.parametrize("file", ["README.md", "docker-compose.yml", "Dockerfile", "Makefile"])
def test_what_names_a_setting_means_one_that_is_there(file: str) -> None:
    named = set(re.findall(r"DAEGI_[A-Z_]+", (ROOT / file).read_text()))
    assert named <= {row.name for row in rows()} | OTHERS
