"""The book of passes, by which the long run of visitors (tests/chaos) judges, sees what it looks for."""

import pytest

from tests.chaos import pass_book
from tests.chaos.ledger import DOUBLE, LOST, WRONG, Ledger
from tests.chaos.pass_book import RELEASE_MS, PassBook
from tests.support.visits import SIGNER

EVENT = "sale"
BEGAN = 1_000_000_000


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(60)


@pytest.fixture
def book(ledger: Ledger) -> PassBook:
    return PassBook(ledger, EVENT)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its first item is the time in ms."""
    time = [BEGAN]
    monkeypatch.setattr(pass_book, "now_ms", lambda: time[0])
    return time


def a_pass(ticket: int, entered: int, until: int) -> str:
    return SIGNER.pass_token(EVENT, ticket, BEGAN + entered, BEGAN + until)


def looks(ticket: int, event: str = EVENT) -> dict[str, str]:
    return {"x-daegi-ticket": str(ticket), "x-daegi-event": event}


def kinds(ledger: Ledger) -> list[str]:
    return [miss.kind for miss in ledger.misses]


def test_it_counts_passes_that_are_good_at_the_same_time(book: PassBook, ledger: Ledger) -> None:
    book.give(1, a_pass(1, 0, 1000))
    book.give(2, a_pass(2, 500, 1500))
    # Whose time begins as another's ends has its slot.
    book.give(3, a_pass(3, 1000, 2000))
    assert book.most_inside() == 2
    book.give(1, a_pass(1, 0, 1001))
    assert book.most_inside() == 3
    assert kinds(ledger) == []


def test_a_released_pass_counts_for_three_seconds_more(book: PassBook) -> None:
    book.give(1, a_pass(1, 0, 60_000)).released = BEGAN + 1000
    book.give(2, a_pass(2, 1000 + RELEASE_MS, 60_000))
    assert book.most_inside() == 1
    book.give(3, a_pass(3, 1000 + RELEASE_MS - 1, 4001))
    assert book.most_inside() == 2


def test_whoever_the_shop_saw_was_inside_until_then(book: PassBook, now: list[int]) -> None:
    book.give(1, a_pass(1, 0, 1000))
    book.give(2, a_pass(2, 1500, 2000))
    assert book.most_inside() == 1
    now[0] = BEGAN + 1501
    book.saw(looks(1))
    assert book.most_inside() == 2


def test_nobody_is_inside_twice_and_no_two_have_one_ticket(book: PassBook, ledger: Ledger) -> None:
    book.give(1, a_pass(1, 0, 1000))
    book.give(1, a_pass(2, 1000, 2000))
    assert kinds(ledger) == []
    book.give(1, a_pass(3, 1999, 3000))
    assert kinds(ledger) == [DOUBLE]
    book.give(2, a_pass(3, 1999, 3000))
    assert kinds(ledger) == [DOUBLE, DOUBLE]


def test_nobody_reaches_the_shop_without_a_pass(book: PassBook, ledger: Ledger, now: list[int]) -> None:
    book.give(1, a_pass(1, 0, 1000))
    book.saw(looks(1))
    assert kinds(ledger) == []
    for headers in ({}, looks(2), looks(1, "another")):
        book.saw(headers)
    assert kinds(ledger) == [WRONG] * 3


def test_a_released_pass_is_good_no_more_unless_redis_was_away(book: PassBook, ledger: Ledger, now: list[int]) -> None:
    book.give(1, a_pass(1, 0, 60_000)).released = BEGAN
    now[0] += RELEASE_MS
    book.saw(looks(1))
    now[0] += 2000
    book.outages.append((BEGAN - 10, BEGAN + 10))
    book.saw(looks(1))
    assert kinds(ledger) == []
    book.outages.clear()
    book.saw(looks(1))
    assert kinds(ledger) == [WRONG]


def test_nobody_is_turned_away_before_the_end_of_their_pass(book: PassBook, ledger: Ledger, now: list[int]) -> None:
    session = book.give(1, a_pass(1, 0, 5000))
    now[0] += 4500
    book.turned_away(session, "302")
    assert kinds(ledger) == []
    now[0] -= 1000
    book.turned_away(session, "302")
    assert kinds(ledger) == [LOST]
