"""Logs and error reports never hold a token."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from shared import telemetry
from shared.settings import Settings
from shared.tokens.signer import Signer

SIGNER = Signer(["a secret of this test"])
TOKENS = (
    SIGNER.waiting("concert", 1795489214696517),
    SIGNER.waiting("a.b:c_d-e", 1795489214696517, 1795489214883),
    SIGNER.reservation("concert", 1795489214696517, 1795489214883),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _logs_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logs_as_they_were")
def test_what_is_logged_is_cut_down_too_also_inside_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(Settings.model_validate({"token_secrets": ["a secret of this test"]}))
    log = structlog.get_logger("tests")
    log.warning("seen", token=TOKENS[0], more={"tokens": [TOKENS[1], (TOKENS[2],)]})
    try:
        raise ValueError(f"bad: {TOKENS[1]}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("some.library").exception("failed with %s", TOKENS[2])
    written = capsys.readouterr().err
    assert written.count("[redacted]") >= 6
    assert "ValueError: bad: w~[redacted]" in written
    for token in TOKENS:
        assert token.rpartition("~")[2] not in written


def fails(user_id: str) -> None:
    raise ValueError(f"somebody with {len(user_id)} letters")


class Somebody:
    def __repr__(self) -> str:
        return f"somebody with {TOKENS[0]}"


@pytest.mark.usefixtures("_logs_as_they_were")
def test_what_json_does_not_know_is_cut_down_as_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(Settings.model_validate({"log_format": "json"}))
    structlog.get_logger("tests").warning("seen", who=Somebody(), why=ValueError(TOKENS[1]), raw=TOKENS[2].encode())
    seen = json.loads(capsys.readouterr().err)
    assert seen["who"] == "somebody with w~[redacted]"
    assert seen["why"] == "ValueError('w~[redacted]')"
    assert seen["raw"] == "b'r~[redacted]'"


@pytest.mark.usefixtures("_logs_as_they_were")
@pytest.mark.parametrize(
    ("settings", "readable"),
    [
        ({}, True),
        ({"environment": "production"}, False),
        ({"log_format": "json"}, False),
        ({"log_format": "text", "environment": "production"}, True),
    ],
)
def test_a_terminal_gets_text_unless_it_is_a_productions(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], readable: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    telemetry.configure(Settings.model_validate({"token_secrets": ["0123456789abcdefghijklmnopqrstuv"], **settings}))
    structlog.get_logger("tests").warning("seen")
    logging.getLogger("some.library").warning("seen as well")
    assert [line.startswith("{") for line in terminal.getvalue().splitlines()] == [not readable] * 2


@pytest.mark.usefixtures("_logs_as_they_were")
def test_a_traceback_on_a_terminal_tells_where_and_not_with_which_values(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    telemetry.configure(Settings.model_validate({"token_secrets": ["a secret of this test"]}))
    reading = [TOKENS[0], "hush-" * 2]
    try:
        fails(user_id=reading[1])
    except ValueError:
        structlog.get_logger("tests").exception("failed")
        logging.getLogger("some.library").exception("failed as well")
    written = terminal.getvalue()
    assert written.count("ValueError: somebody with 10 letters") == 2
    assert written.count("in fails") == 2
    assert "hush-hush" not in written
    assert TOKENS[0].rpartition("~")[2] not in written
