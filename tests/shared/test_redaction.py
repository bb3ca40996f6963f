"""What is secret is cut out of a text, wherever it stands; the rest stays."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redaction import redact, redact_all
from shared.tokens.signer import Signer

SIGNER = Signer(["a secret of this test"])
TOKENS = (
    SIGNER.waiting("concert", 1795489214696517),
    SIGNER.waiting("a.b:c_d-e", 1795489214696517, 1795489214883),
    SIGNER.reservation("concert", 1795489214696517, 1795489214883),
)


@given(st.sampled_from(TOKENS), st.text(st.characters(codec="utf-8"), max_size=20), st.text(max_size=20))
def test_a_token_is_cut_down_to_its_kind_wherever_it_stands(token: str, before: str, after: str) -> None:
    cut = redact(f"{before} {token} {after}")
    assert token.rpartition("~")[2] not in cut
    assert f"{token[0]}~[redacted]" in cut


def test_several_tokens_are_all_cut_down_and_the_rest_stays() -> None:
    text = f"GET /api/v1/queue/status?token={TOKENS[0]}&x=1 then {TOKENS[2]}."
    assert redact(text) == "GET /api/v1/queue/status?token=[redacted]&x=1 then r~[redacted]."
    assert redact("nothing to hide: w~concert~12") == "nothing to hide: w~concert~12"


@pytest.mark.parametrize("spell", [str, str.upper])
def test_a_ticket_as_a_uuid_is_cut_out_wherever_it_stands(spell: Callable[[str], str]) -> None:
    uuid = spell(SIGNER.ticket_uuid("concert", 1795489214696517))
    for text in ("/cancel/acme/concert/{}?r=/", "wrl=a~{}_b", "{}", "t=%3Fqueueittoken%3De_a~q_{}~ts_1"):
        assert redact(text.format(uuid)) == text.format("[redacted]")
    # Those of others, such as trace ids, are random.
    random = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"
    assert redact(random) == random


@pytest.mark.parametrize("spoil", [lambda token: token[:-1], lambda token: token.replace("~", "%7E"), str.upper])
@pytest.mark.parametrize("token", TOKENS)
def test_what_is_almost_a_token_is_cut_down_too(token: str, spoil: Callable[[str], str]) -> None:
    assert redact(f"got {spoil(token)}, left") == f"got {spoil(token)[0]}~[redacted], left"


@pytest.mark.parametrize("spoil", [lambda token: token[:-1], lambda token: token.replace("~", "%7E"), str.upper])
def test_what_is_almost_a_token_in_a_path_is_cut_out_too(spoil: Callable[[str], str]) -> None:
    for query in (f"?token={spoil(TOKENS[0])}", f"?x=1&token={spoil(TOKENS[0])}&y=2"):
        cut = redact(f'"GET /api/v1/queue/status{query} HTTP/1.1" 400')
        assert spoil(TOKENS[0])[-21:] not in cut
        assert cut.endswith(' HTTP/1.1" 400')


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Authorization: Bearer hush-hush", "Authorization: Bearer [redacted]"),
        ("[(b'authorization', b'bearer hush-hush')]", "[(b'authorization', b'bearer [redacted]')]"),
        ('{"authorization": "Basic aHVzaA=="}', '{"authorization": "Basic [redacted]"}'),
        ("GET /?daegi_pass=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3In0.hush-hush_1&a=1", "GET /?daegi_pass=[redacted]&a=1"),
        (
            "next=https%3A%2F%2Fa%3Fb%3DeyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3In0.hush",
            "next=https%3A%2F%2Fa%3Fb%3D[redacted]",
        ),
        (
            "an eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3In0 of two parts",
            "an eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3In0 of two parts",
        ),
        ("redis://:hush@127.0.0.1:6379/0 is away", "redis://:***@127.0.0.1:6379/0 is away"),
        ("rediss+cluster://daegi:hu@sh@a:1,b:2", "rediss+cluster://daegi:***@a:1,b:2"),
        ("two: redis://u:hush@a and redis://u:hush@b", "two: redis://u:***@a and redis://u:***@b"),
        ("http://127.0.0.1:8000 is ready, ask me@example.org", "http://127.0.0.1:8000 is ready, ask me@example.org"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ],
)
def test_credentials_are_cut_out(text: str, cut: str) -> None:
    assert redact(text) == cut


def test_in_a_structure_what_a_name_gives_away_is_cut_out_whole() -> None:
    seen = {
        "headers": {"Authorization": "hush", "idempotency-key": b"hush", "x-request-id": "r-1"},
        "people": [{"user_id": "hush", "position": 3}],
        f"of {TOKENS[0]}": True,
    }
    assert redact_all(seen) == {
        "headers": {"Authorization": "[redacted]", "idempotency-key": "[redacted]", "x-request-id": "r-1"},
        "people": [{"user_id": "[redacted]", "position": 3}],
        "of w~[redacted]": True,
    }
