"""What the room says, in every language, and which language somebody gets."""

import re
from importlib.resources import files
from typing import get_args

import msgspec
import pytest

from api.room.texts import LANGUAGES, Plural, State, Texts, language, texts_in
from api.serving.slips import Reason

NUMBERED = {
    "short_minutes": ["{n}"],
    "short_hours": ["{n}"],
    "short_days": ["{n}"],
    "place_about": ["{n}"],
    "range": ["{low}", "{high}"],
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_text_is_there_and_says_something(name: str) -> None:
    texts = texts_in(name)
    assert texts.lang == name
    assert set(texts.states) == set(get_args(State))
    assert set(texts.reasons) == set(get_args(Reason)) - {""}
    told = [text for words in texts.states.values() for text in (words.headline, words.advice)]
    told += [*texts.reasons.values()]
    told += [text for field in texts.__struct_fields__ if isinstance(text := getattr(texts, field), str)]
    assert [text for text in told if not text or (text != texts.thousands and text != text.strip())] == []


@pytest.mark.parametrize("name", LANGUAGES)
def test_numbers_stand_in_the_texts_that_have_them_and_in_no_other(name: str) -> None:
    texts = texts_in(name)
    for field in texts.__struct_fields__:
        value = getattr(texts, field)
        if isinstance(value, str):
            assert re.findall(r"\{.*?\}", value) == NUMBERED.get(field, []), field
        elif isinstance(value, Plural):
            forms = [form for form in (value.one, value.many, value.other) if form]
            assert [form for form in forms if form.count("{n}") != 1 or form.count("{") != 1] == [], field
    assert not any("{" in words.headline + words.advice for words in texts.states.values())
    assert not any("{" in words for words in texts.reasons.values())


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_has_exactly_the_plurals_that_its_grammar_has(name: str) -> None:
    forms = {"en": 1, "de": 1, "es": 2, "fr": 2}.get(name, 0)
    texts = texts_in(name)
    for field in (
        *("minutes", "hours", "days", "less_than_minutes", "less_than_hours", "less_than_days"),
        *("ahead", "ahead_about"),
    ):
        plural: Plural = getattr(texts, field)
        assert bool(plural.one) + bool(plural.many) == forms, field


def test_a_translator_is_told_of_a_key_that_is_missing_or_too_much() -> None:
    texts = msgspec.json.decode((files("api.room.texts") / "en.json").read_bytes())
    for wrong in ({**texts, "moreover": ""}, {key: value for key, value in texts.items() if key != "next"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Texts)


@pytest.mark.parametrize(
    ("name", "n", "text"),
    [
        ("en", 0, "0 people are ahead of you"),
        ("en", 1, "1 person is ahead of you"),
        ("en", 12_345, "12,345 people are ahead of you"),
        ("de", 1, "1 Person ist vor Ihnen"),
        ("de", 1_234_567, "1.234.567 Personen sind vor Ihnen"),
        ("es", 1_234, "Hay 1234 personas delante de usted"),
        ("es", 12_345, "Hay 12.345 personas delante de usted"),
        ("es", 2_000_000, "Hay 2.000.000 de personas delante de usted"),
        ("fr", 0, "0 personne devant vous"),
        ("fr", 2, "2 personnes devant vous"),
        ("fr", 1_000_000, "1\u202f000\u202f000 de personnes devant vous"),
        ("ko", 1, "앞에 1명이 있습니다"),
        ("ja", 2_000, "前に2,000人並んでいます"),
        ("zh", 2_000, "您前面有 2,000 人"),
    ],
)
def test_plurals_and_numbers_are_as_the_language_has_them(name: str, n: int, text: str) -> None:
    texts = texts_in(name)
    assert texts.plural(texts.ahead, n).format(n=texts.number(n)) == text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("DE-at", "de"),
        ("zh-Hant-TW", "zh"),
        ("pt-BR, pt;q=0.9", "en"),
        ("pt, fr;q=0.2", "fr"),
        ("en;q=0.5, ja;q=0.7", "ja"),
        ("fr;q=0.5, de;q=0.5", "fr"),
        ("fr;q=0, de;q=0.1", "de"),
        ("fr;q=0", "en"),
        ("en;q=0, *", "ko"),
        ("*", "en"),
        ("es;q=0.3, *;q=0.2", "es"),
        (" es ; q=1.0 , en;q=0.9", "es"),
        ("de;q=high, fr;q=0.1", "fr"),
        ("de;q=, fr;q=0.1", "fr"),
        ("de;q=-1, fr;q=0.1", "fr"),
        ("de;q=\u0661, fr;q=0.1", "fr"),
        (";;;,,,=", "en"),
        ("\udcff", "en"),
        ("x" * 100_000, "en"),
        (",".join(["pt"] * 10_000 + ["de"]), "en"),
    ],
)
def test_the_best_language_is_chosen_and_english_for_want_of_a_better(accept: str, expected: str) -> None:
    assert language(accept) == expected


def test_an_unknown_language_opens_no_file() -> None:
    with pytest.raises(LookupError):
        texts_in("../../secret")
