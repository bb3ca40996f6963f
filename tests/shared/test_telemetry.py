"""Logs and error reports never hold a token."""

import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared import telemetry
from shared.settings import Settings
from shared.tickets import Signer

SIGNER = Signer(["a secret of this test"])
TOKENS = (
    SIGNER.waiting("concert", 1795489214696517),
    SIGNER.waiting("a.b:c_d-e", 1795489214696517, 1795489214883),
    SIGNER.reservation("concert", 1795489214696517, 1795489214883),
)


@given(st.sampled_from(TOKENS), st.text(st.characters(codec="utf-8"), max_size=20), st.text(max_size=20))
def test_a_token_is_cut_down_to_its_kind_wherever_it_stands(token: str, before: str, after: str) -> None:
    cut = telemetry.redact(f"{before} {token} {after}")
    assert token.rpartition("~")[2] not in cut
    assert f"{token[0]}~[redacted]" in cut


def test_several_tokens_are_all_cut_down_and_the_rest_stays() -> None:
    text = f"GET /api/v1/queue/status?token={TOKENS[0]}&x=1 then {TOKENS[2]}."
    assert telemetry.redact(text) == "GET /api/v1/queue/status?token=[redacted]&x=1 then r~[redacted]."
    assert telemetry.redact("nothing to hide: w~concert~12") == "nothing to hide: w~concert~12"


@pytest.mark.parametrize("spoil", [lambda token: token[:-1], lambda token: token.replace("~", "%7E"), str.upper])
def test_what_is_almost_a_token_in_a_path_is_cut_out_too(spoil: Callable[[str], str]) -> None:
    for query in (f"?token={spoil(TOKENS[0])}", f"?x=1&token={spoil(TOKENS[0])}&y=2"):
        cut = telemetry.redact(f'"GET /api/v1/queue/status{query} HTTP/1.1" 400')
        assert spoil(TOKENS[0])[-21:] not in cut
        assert cut.endswith(' HTTP/1.1" 400')


@pytest.fixture
def _logs_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fails(user_id: str) -> None:
    raise ValueError(f"somebody with {len(user_id)} letters")


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
