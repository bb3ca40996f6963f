"""Tokens: what one says is what was signed, and nothing else passes for one."""

import re
from collections.abc import Callable
from functools import partial
from hmac import compare_digest
from uuid import RFC_4122, UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.errors import InvalidTokenError
from shared.tokens.signer import ReservationToken, Signer, WaitingToken

OURS = Signer(["the secret of these tests"])
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-"

events = st.text(ALPHABET, min_size=1, max_size=64)
tickets = st.integers(1, 9_999_999_999_999_999)
times = st.integers(1, 9_999_999_999_999)
# Whole tokens, good pieces in a bad order, and noise: plain random text would hardly ever get past the first check.
texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(["w", "r", "~", "concert", "0", "1795489214696517", "A" * 22, "é", "\0"]), max_size=9).map(
        "".join
    ),
)
mutations = st.one_of(
    st.tuples(st.just("replace"), st.integers(0, 200), st.characters(codec="utf-8")),
    st.tuples(st.just("insert"), st.integers(0, 200), st.characters(codec="utf-8")),
    st.tuples(st.just("delete"), st.integers(0, 200), st.just("")),
    st.tuples(st.just("truncate"), st.integers(0, 200), st.just("")),
)


def mutate(token: str, mutation: tuple[str, int, str]) -> str:
    how, where, char = mutation
    i = where % len(token)
    return {
        "replace": token[:i] + char + token[i + 1 :],
        "insert": token[:i] + char + token[i:],
        "delete": token[:i] + token[i + 1 :],
        "truncate": token[:i],
    }[how]


def refused(verify: Callable[[str], object], token: str) -> bool:
    with pytest.raises(InvalidTokenError):
        verify(token)
    return True


@given(events, tickets)
def test_the_token_of_a_join_says_event_and_ticket_and_when_they_joined(event: str, ticket: int) -> None:
    token = OURS.verify_waiting(OURS.waiting(event, ticket))
    assert token == WaitingToken(event, ticket, ticket // 1000)


@given(events, tickets, times)
def test_a_lease_and_a_reservation_come_back_as_signed(event: str, ticket: int, ms: int) -> None:
    assert OURS.verify_waiting(OURS.waiting(event, ticket, ms)) == WaitingToken(event, ticket, ms)
    assert OURS.verify_reservation(OURS.reservation(event, ticket, ms)) == ReservationToken(event, ticket, ms)


@given(events, tickets)
def test_a_ticket_comes_back_from_its_uuid_and_from_no_other(event: str, ticket: int) -> None:
    text = OURS.ticket_uuid(event, ticket)
    assert (UUID(text).version, UUID(text).variant) == (8, RFC_4122)
    rotated = Signer(["another secret", "the secret of these tests"])
    for spelled in (text, text.upper()):
        assert OURS.ticket_of_uuid(event, spelled) == rotated.ticket_of_uuid(event, spelled) == ticket
    others = [text[:i] + ("0" if text[i] != "0" else "1") + text[i + 1 :] for i in range(36)]
    others += [text[:-1], f"{text}0", text.replace("-", ""), f"{{{text}}}", f"urn:uuid:{text}", "\u0660" * 32, ""]
    assert all(refused(partial(OURS.ticket_of_uuid, event), other) for other in others)
    assert refused(partial(Signer(["another secret"]).ticket_of_uuid, event), text)
    assert refused(partial(OURS.ticket_of_uuid, f"{event}."), text)


@given(events, tickets)
def test_a_join_always_has_the_same_token(event: str, ticket: int) -> None:
    assert Signer(["the secret of these tests"]).waiting(event, ticket) == OURS.waiting(event, ticket)


@given(events, tickets, times, mutations)
@example("concert", 1795489214696517, 1795489214883, ("insert", 0, "0"))
@example("concert", 1795489214696517, 1795489214883, ("insert", 10, "0"))
def test_any_change_makes_a_token_worthless(event: str, ticket: int, ms: int, mutation: tuple[str, int, str]) -> None:
    for token, verify in (
        (OURS.waiting(event, ticket), OURS.verify_waiting),
        (OURS.waiting(event, ticket, ms), OURS.verify_waiting),
        (OURS.reservation(event, ticket, ms), OURS.verify_reservation),
    ):
        changed = mutate(token, mutation)
        if changed != token:
            assert refused(verify, changed)


def test_every_single_changed_character_is_noticed() -> None:
    token = OURS.waiting("concert", 1795489214696517, 1795489214883)
    for i, old in enumerate(token):
        for new in ALPHABET + "~":
            if new != old:
                assert refused(OURS.verify_waiting, token[:i] + new + token[i + 1 :])


def test_macs_are_compared_whole_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long it takes is measured by `python -m tests.load.timing`.
    compared: list[tuple[str, str]] = []

    def compare(ours: str, given: str) -> bool:
        compared.append((ours, given))
        return compare_digest(ours, given)

    monkeypatch.setattr("shared.tokens.signer.compare_digest", compare)
    body, _, mac = OURS.waiting("concert", 1795489214696517, 1795489214883).rpartition("~")
    forged = [mac[:i] + ("A" if mac[i] != "A" else "B") + mac[i + 1 :] for i in range(len(mac))]
    for one in (*forged, mac[:-1], mac + "A", ""):
        assert refused(OURS.verify_waiting, f"{body}~{one}")
    OURS.verify_waiting(f"{body}~{mac}")
    assert compared == [(mac, one) for one in (*forged, mac[:-1], mac + "A", "", mac)]


@given(texts)
@example("~")
@example("w~~~")
@example("w~concert~~" + "A" * 22)
@example("\ud800")
def test_whatever_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    assert refused(OURS.verify_waiting, text)
    assert refused(OURS.verify_reservation, text)


@given(events, tickets, times)
def test_each_kind_is_good_for_its_own_use_only(event: str, ticket: int, ms: int) -> None:
    assert refused(OURS.verify_reservation, OURS.waiting(event, ticket))
    assert refused(OURS.verify_reservation, OURS.waiting(event, ticket, ms))
    assert refused(OURS.verify_waiting, OURS.reservation(event, ticket, ms))
    # Nor by changing the letter: the kind is inside the MAC.
    assert refused(OURS.verify_reservation, "r" + OURS.waiting(event, ticket, ms)[1:])


@given(st.lists(st.tuples(events, tickets), min_size=2, max_size=2, unique=True), times)
def test_two_places_never_share_a_token(places: list[tuple[str, int]], ms: int) -> None:
    (event, ticket), (other, another) = places
    assert OURS.waiting(event, ticket) != OURS.waiting(other, another)
    assert OURS.waiting(event, ticket, ms) != OURS.waiting(other, another)


@given(tickets, times)
def test_an_event_cannot_be_named_after_somebodys_ticket(ticket: int, ms: int) -> None:
    # With dots between the parts, an event named "victim.TICKET" once minted the victim's token.
    victims = {OURS.waiting("victim", ticket), OURS.waiting("victim", ticket, ms)}
    for joint in ALPHABET:
        for name in (f"victim{joint}{ticket}", f"victim{joint}{ticket}{joint}{ms}"):
            minted = OURS.waiting(name, ms)
            assert minted not in victims
            if len(name) <= 64:
                assert OURS.verify_waiting(minted).event_id == name


@pytest.mark.parametrize("name", ["~", "a~1795489214696517", "w~a"])
def test_a_name_that_would_pass_for_another_token_is_not_signed(name: str) -> None:
    with pytest.raises(ValueError, match="~"):
        OURS.waiting(name, 1795489214696517)
    with pytest.raises(ValueError, match="~"):
        OURS.reservation(name, 1795489214696517, 1)


@given(events, tickets)
def test_a_token_of_a_secret_that_was_retired_is_refused(event: str, ticket: int) -> None:
    old, both, new = Signer(["old"]), Signer(["new", "old"]), Signer(["new"])
    token = old.waiting(event, ticket)
    assert both.verify_waiting(token) == old.verify_waiting(token)
    assert refused(new.verify_waiting, token)
    # While secrets rotate, the first one signs.
    assert both.waiting(event, ticket) == new.waiting(event, ticket)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), st.text(ALPHABET, min_size=1, max_size=9))
def test_another_secret_signs_otherwise(secret: str, other: str) -> None:
    assume(secret != other)
    token = Signer([secret]).waiting("concert", 1795489214696517)
    assert refused(Signer([other]).verify_waiting, token)
    assert re.fullmatch(r"w~concert~1795489214696517~[A-Za-z0-9_-]{22}", token)


def test_secrets_that_differ_only_behind_64_bytes_differ() -> None:
    long = "x" * 64
    token = Signer([long + "1"]).waiting("concert", 1795489214696517)
    assert refused(Signer([long + "2"]).verify_waiting, token)


@pytest.mark.parametrize("secrets", [[], [""], ["good", ""]])
def test_an_empty_secret_is_not_signed_with(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Signer(secrets)


def test_a_token_fits_a_line_of_a_log_and_a_query() -> None:
    token = OURS.waiting("x" * 64, 9_999_999_999_999_999, 9_999_999_999_999)
    assert len(token) <= 160
    assert re.fullmatch(r"[A-Za-z0-9_.:~-]+", token)
    assert OURS.verify_waiting(token).ticket == 9_999_999_999_999_999
