"""The waiting page as the server sends it. Every state is a whole page, with a script or without one.

    Page, Texts -> render() -> HTML        headers() -> what is sent with it        shared() -> HTML that is kept

assets/page.html has the elements; `data-in` says in which states each is shown. assets/room.js takes over from there.
"""

import gzip
import re
from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import get_args
from urllib.parse import quote, urlsplit

import msgspec

from api.http.response import Header
from api.room.assets import accent_url, load_assets
from api.room.texts import Plural, Refusal, State, Texts
from api.room.wait import Wait, rounded

_IN_STATES = re.compile(r' data-in="([a-z_ ]+)"')
_PLACEHOLDER = re.compile(r"\$([a-z_]+)")
_MOST_ADDRESS = 1024
_REFRESHED = frozenset({"waiting", "ready", "full", "paused", "unavailable", "busy"})
"""States that pass by themselves: without a script the page is loaded again."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What to show.

    `base` is `/waiting-room/{event_id}`; forms post to `join`, `enter` and `leave` below it, with `?next=` as the page
    has it. `waiting`, `full` and `paused` are for those who have a place: they are told that it is kept.
    """

    state: State
    base: str
    event_id: str = ""
    title: str = ""
    message: str = ""
    logo: str = ""
    accent: str = ""
    position: int | None = None
    """From 1; None and 0 when it is not known."""
    people_ahead: int | None = None
    eta_low_s: float | None = None
    """With `eta_high_s` the range of the wait; None while nobody is let in."""
    eta_high_s: float | None = None
    joined_at: str | None = None
    """RFC 3339, in UTC."""
    poll_after_ms: int = 5000
    approximate: bool = False
    next_url: str = "/"


def render(page: Page, texts: Texts) -> bytes:
    """The page in HTML."""
    wait = None
    if page.state in {"waiting", "full"} and page.eta_low_s is not None and page.eta_high_s is not None:
        wait = rounded(page.eta_low_s, page.eta_high_s)
    event = page.title or texts.room
    place = texts.number(page.position) if page.position else ""
    since = _hour(page.joined_at)
    accent = accent_url(page.accent)
    filled = {
        "accent": f'<link rel="stylesheet" href="{accent}">' if accent else "",
        "ahead": escape(_ahead(page, texts)),
        "base": escape(page.base),
        "event": escape(event),
        "high": _seconds(page.eta_high_s),
        "joined": escape(page.joined_at or ""),
        "logo": f'<img src="{escape(page.logo)}" alt="">' if page.logo else "",
        "low": _seconds(page.eta_low_s),
        "message": f'<p class="message" dir="auto">{escape(page.message)}</p>' if page.message else "",
        "next": escape(page.next_url),
        "next_query": quote(page.next_url, safe="/"),
        "no_place": "" if place else " hidden",
        "no_since": "" if since else " hidden",
        "place": escape(texts.place_about.format(n=place) if place and page.approximate else place),
        "poll": str(page.poll_after_ms),
        "position": str(page.position or ""),
        "refresh": _refresh(page),
        "since": escape(since),
        "tab": escape(f"{_short(wait, texts) if wait else texts.states[page.state].headline} · {event}"),
        "wait": _wait(wait, texts) if wait else escape(texts.no_eta),
    }
    pieces = list(_prepared(page.state, texts))
    pieces[1::2] = [filled[name] for name in pieces[1::2]]
    return "".join(pieces).encode()


class Shared:
    """A page that many get as it is, because it shows nobody's place. It is compressed once it is asked for again."""

    def __init__(self, html: bytes) -> None:
        self._html = html
        self._zipped: bytes | None = None
        self._uses = 0

    def body(self, *, zipped: bool) -> tuple[bytes, bool]:
        """The page, and whether it is compressed."""
        self._uses += 1
        if not zipped or self._uses == 1:
            # Compressing takes longer than all the rest: not for an address that is asked for once.
            return self._html, False
        if self._zipped is None:
            self._zipped = gzip.compress(self._html, 6, mtime=0)
        return self._zipped, True


def is_shared(page: Page) -> bool:
    """Whether many may get it as it is. Long addresses do not fill our memory."""
    return page.position is None and len(page.base) + len(page.next_url) <= _MOST_ADDRESS


@lru_cache(maxsize=256)
def shared(page: Page, texts: Texts) -> Shared:
    """A page for which is_shared() holds, rendered once."""
    return Shared(render(page, texts))


def headers(page: Page) -> tuple[Header, ...]:
    """What is sent with it: nothing inline, nothing from elsewhere but a logo that its operator put there."""
    logo, target = _origin(page.logo), _origin(page.next_url)
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src 'self'{logo}; "
        # Browsers hold the redirect after a form's POST against it, too.
        f"form-action 'self'{target}; base-uri 'none'; frame-ancestors 'self'"
    )
    return (
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-security-policy", policy),
        # With "no-referrer" the Origin of our own forms would be "null".
        ("referrer-policy", "same-origin"),
        ("vary", "accept-encoding, accept-language, cookie"),
        ("x-content-type-options", "nosniff"),
    )


@lru_cache(maxsize=256)
def _prepared(state: State, texts: Texts) -> tuple[str, ...]:
    """The page with all that state and language decide; every second piece is the name of something else."""
    assets = load_assets()
    html = (files("api.room") / "assets" / "page.html").read_text()
    html = _IN_STATES.sub(lambda found: found[0] if state in found[1].split() else f"{found[0]} hidden", html)
    words = texts.states[state]
    filled = {
        "lang": texts.lang,
        "state": state,
        "icon": assets.url("icon.svg"),
        "style": assets.url("style.css"),
        "script": assets.url("room.js"),
        "texts": _for_script(texts),
        "headline": words.headline,
        "advice": words.advice,
        "join": texts.join if state == "join" else texts.join_again,
        "enter": texts.enter,
        "retry": texts.retry,
        "home": texts.home,
        "to_room": texts.to_room,
        "notify": texts.notify,
        "leave": texts.leave,
        "leave_warning": texts.leave_warning,
        "leave_confirm": texts.leave_confirm,
        "place_label": texts.place,
        "since_label": texts.since,
        "contact_label": texts.contact,
    }
    escaped = {name: escape(text) for name, text in filled.items()}
    html = _PLACEHOLDER.sub(lambda found: escaped.get(found[1], f"\0{found[1]}\0"), html)
    return tuple(html.split("\0"))


def _for_script(texts: Texts) -> str:
    """The texts in JSON, without the states that no script comes to."""
    states = {state: words for state, words in texts.states.items() if state not in get_args(Refusal)}
    return msgspec.json.encode(msgspec.structs.replace(texts, states=states)).decode()


def _refresh(page: Page) -> str:
    if page.state not in _REFRESHED:
        return ""
    seconds = max(1, -(-page.poll_after_ms // 1000))
    url = f"{escape(page.base)}?next={quote(page.next_url, safe='')}"
    return f'<noscript><meta http-equiv="refresh" content="{seconds};url={url}"></noscript>'


def _wait(wait: Wait, texts: Texts) -> str:
    """The wait with its numbers made large: the eye gets them with a dash, the ear in words."""
    low, high = texts.number(wait.low), texts.number(wait.high)
    number = f"<b>{escape(high)}</b>"
    if wait.low not in {0, wait.high}:
        spoken = texts.range.format(low=low, high=high)
        seen = escape(f"{low}\u2013{high}")
        number = f'<b aria-hidden="true">{seen}</b><span class="spoken">{escape(spoken)}</span>'
    before, _, after = texts.plural(_forms(wait, texts), wait.high).partition("{n}")
    return f"{escape(before)}{number}{escape(after)}"


def _short(wait: Wait, texts: Texts) -> str:
    unit = {"minutes": texts.short_minutes, "hours": texts.short_hours, "days": texts.short_days}[wait.unit]
    low, high = texts.number(wait.low), texts.number(wait.high)
    number = f"< {high}" if wait.low == 0 else high if wait.low == wait.high else f"{low}\u2013{high}"
    return unit.format(n=number)


def _forms(wait: Wait, texts: Texts) -> Plural:
    if wait.low == 0:
        return {
            "minutes": texts.less_than_minutes,
            "hours": texts.less_than_hours,
            "days": texts.less_than_days,
        }[wait.unit]
    return {"minutes": texts.minutes, "hours": texts.hours, "days": texts.days}[wait.unit]


def _ahead(page: Page, texts: Texts) -> str:
    if page.people_ahead is None or not page.position:
        return ""
    if page.people_ahead == 0:
        return texts.next
    forms = texts.ahead_about if page.approximate else texts.ahead
    return texts.plural(forms, page.people_ahead).format(n=texts.number(page.people_ahead))


def _hour(joined_at: str | None) -> str:
    """`14:03 UTC`: only the script knows where somebody is."""
    return f"{joined_at[11:16]} UTC" if joined_at else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else str(round(seconds))


def _origin(url: str) -> str:
    """` https://cdn.example` for an absolute URL on the web, '' for a path or anything else."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not re.fullmatch(r"[\w.\-\[\]:]+", parts.netloc, re.ASCII):
        return ""
    return f" {parts.scheme}://{parts.netloc}"
