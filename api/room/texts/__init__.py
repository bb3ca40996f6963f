"""What the room says, a file a language, and which language somebody reads."""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, Literal

import msgspec

from api.serving.slips import Reason

LANGUAGES: Final = ("en", "ko", "ja", "zh", "es", "de", "fr")
"""The first is for those who read none of them."""

Refusal = Literal[
    "unknown_site",
    "refused",
    "refused_hash",
    "refused_time",
    "refused_event",
    "refused_address",
    "refused_often",
]
"""What a page is about that a site's connector leads to (api/room/connector.py)."""

State = Literal[
    "join",
    "waiting",
    "ready",
    "full",
    "paused",
    "left",
    "expired",
    "cookies_off",
    "unavailable",
    "not_found",
    "bad_link",
    "busy",
    "not_sent",
    Refusal,
]
"""What the page is about (api/room/pages.py)."""

_MOST_RANGES = 32


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens, and what to do."""

    headline: str
    advice: str


class Plural(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Forms of a text with `{n}`, named as CLDR names them; a form that is not given is `other`."""

    other: str
    one: str = ""
    many: str = ""


class Texts(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True):
    """All texts in one language. assets/room.js gets them as JSON."""

    lang: str
    thousands: str
    """Stands between groups of three digits, from `thousands_from` digits on."""
    thousands_from: int
    room: str
    """The title of an event that has none."""
    states: dict[State, Words]
    joining: str
    minutes: Plural
    hours: Plural
    days: Plural
    less_than_minutes: Plural
    less_than_hours: Plural
    less_than_days: Plural
    no_eta: str
    range: str
    """From `{low}` to `{high}`, for the ear; the eye sees them with a dash."""
    short_minutes: str
    """For the title of the tab, as the next two."""
    short_hours: str
    short_days: str
    ahead: Plural
    ahead_about: Plural
    next: str
    """Nobody is ahead."""
    place: str
    place_about: str
    since: str
    contact: str
    join: str
    join_again: str
    enter: str
    retry: str
    home: str
    to_room: str
    notify: str
    notify_on: str
    notify_blocked: str
    notification: str
    leave: str
    leave_warning: str
    leave_confirm: str
    lost: str
    slower: str
    """The wait grows by more than its range, and nobody knows why."""
    reasons: dict[Reason, str]
    """The same where it is known. There is none for ''."""

    def number(self, n: int) -> str:
        """A number as it is written in this language."""
        if len(str(n)) < self.thousands_from:
            return str(n)
        return f"{n:,}".replace(",", self.thousands)

    def plural(self, forms: Plural, n: int) -> str:
        """The form for `n`, its `{n}` still to be filled in."""
        category = _CATEGORIES[self.lang](n)
        return (category == "one" and forms.one) or (category == "many" and forms.many) or forms.other


def _one(n: int) -> str:
    return "one" if n == 1 else "other"


def _none(n: int) -> str:
    return "other"


def _spanish(n: int) -> str:
    return "many" if n and n % 1_000_000 == 0 else _one(n)


def _french(n: int) -> str:
    return "one" if n == 0 else _spanish(n)


_CATEGORIES: Mapping[str, Callable[[int], str]] = {
    "en": _one,
    "ko": _none,
    "ja": _none,
    "zh": _none,
    "es": _spanish,
    "de": _one,
    "fr": _french,
}
"""CLDR's cardinal rules for whole numbers."""


@cache
def texts_in(language: str) -> Texts:
    """The texts in one of LANGUAGES."""
    if language not in LANGUAGES:
        raise LookupError(f"there are no texts in {language}")
    return msgspec.json.decode((files(__package__) / f"{language}.json").read_bytes(), type=Texts)


@lru_cache(maxsize=256)
def language(accept_language: str) -> str:
    """The one of LANGUAGES that Accept-Language (RFC 9110) likes best, the first if it likes none.

    What cannot be read in it is left out.
    """
    wanted: dict[str, float] = {}
    for part in accept_language.split(",")[:_MOST_RANGES]:
        tag, _, weight = part.partition(";")
        name, quality = tag.strip().lower().partition("-")[0], _quality(weight)
        if name and quality is not None:
            # "fr-CH, fr;q=0.9": the better of the two speaks for French. A 0 only says that a variant is not wanted.
            wanted[name] = max(quality, wanted.get(name, 0.0))
    others = wanted.get("*", 0.0)
    best = max(wanted, key=lambda name: wanted[name] if name in LANGUAGES else 0.0, default="")
    best_quality = wanted[best] if best in LANGUAGES else 0.0
    if others > best_quality:
        return next((name for name in LANGUAGES if name not in wanted), LANGUAGES[0])
    return best if best_quality > 0 else LANGUAGES[0]


def _quality(weight: str) -> float | None:
    """The value of `q=0.8`, 1 when there is none, None when it cannot be read."""
    weight = weight.strip().lower()
    if not weight:
        return 1.0
    name, _, value = weight.partition("=")
    digits = value.strip()
    if name.strip() != "q" or not digits.replace(".", "", 1).isdecimal() or not digits.isascii():
        return None
    return min(float(digits), 1.0)
