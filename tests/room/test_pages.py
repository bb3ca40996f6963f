"""The page as it is sent: whole in every state and language, safe whatever it is given, small."""

import gzip
import json
import re
from html.parser import HTMLParser
from typing import get_args

import msgspec
import pytest

from api.room.assets import PATH, load_assets
from api.room.pages import Page, headers, is_shared, render, shared
from api.room.texts import LANGUAGES, Refusal, State, texts_in

STATES: tuple[State, ...] = get_args(State)
PLACED = Page(
    state="waiting",
    base="/waiting-room/shop",
    event_id="shop",
    title="Autumn concert",
    message="Two tickets each.",
    accent="#635bff",
    logo="/logo.svg",
    position=241,
    people_ahead=240,
    eta_low_s=255.0,
    eta_high_s=375.0,
    joined_at="2026-11-25T10:03:04.000005Z",
    poll_after_ms=7100,
    next_url="/checkout?a=1&b=2",
)
VOID = {"meta", "link", "img"}
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;$title{n}\0"


class Parsed(HTMLParser):
    """The elements of a page, each with what is in it; fails on tags that do not match."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shown: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(page.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        hidden = "hidden" in attributes or (bool(self._open) and self._open[-1][1])
        self.elements.append((tag, attributes))
        if not hidden:
            self.shown.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, hidden))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and not self._open[-1][1] and data.strip():
            self.text.append(data.strip())

    def first(self, tag: str) -> dict[str, str]:
        return next(attributes for name, attributes in self.elements if name == tag)

    def actions(self) -> list[str]:
        """Where its forms and links that are shown lead."""
        found = [
            attributes.get("action") or attributes.get("href", "")
            for tag, attributes in self.shown
            if tag in {"form", "a"}
        ]
        return [url.partition("?")[0] for url in found]


def page_of(state: State, lang: str = "en") -> Parsed:
    return Parsed(render(msgspec.structs.replace(PLACED, state=state), texts_in(lang)))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_every_state_says_what_happens_and_what_to_do(state: State, lang: str) -> None:
    page, words = page_of(state, lang), texts_in(lang).states[state]
    assert page.first("html")["lang"] == lang
    assert words.headline in page.text
    assert words.advice in page.text
    assert [text for text in page.text if "$" in text or "{" in text] == []


def test_the_script_has_the_texts_of_every_state_that_it_can_come_to_and_no_others() -> None:
    texts = json.loads(page_of("join").first("main")["data-texts"])
    assert set(texts["states"]) == set(STATES) - set(get_args(Refusal))


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        ("join", ["/join"]),
        ("waiting", ["/leave"]),
        ("ready", ["/enter"]),
        ("full", ["/leave"]),
        ("paused", ["/leave"]),
        ("left", ["/join"]),
        ("expired", ["/join"]),
        ("cookies_off", [""]),
        ("unavailable", [""]),
        ("busy", [""]),
        ("not_sent", [""]),
        ("refused", [""]),
        ("refused_hash", [""]),
        ("refused_time", [""]),
        ("refused_event", [""]),
        ("refused_address", [""]),
        ("refused_often", [""]),
        ("bad_link", [""]),
    ],
)
def test_a_state_offers_what_can_be_done_in_it(state: State, actions: list[str]) -> None:
    assert page_of(state).actions() == [f"/waiting-room/shop{action}" for action in actions]


def test_where_there_is_no_room_the_way_leads_home() -> None:
    assert page_of("not_found").actions() == ["/"]
    # A site that is not known has no home here.
    assert page_of("unknown_site").actions() == []


def test_from_a_link_that_is_not_valid_the_way_leads_to_the_room_without_it() -> None:
    assert [attributes["href"] for tag, attributes in page_of("bad_link").shown if tag == "a"] == ["/waiting-room/shop"]


@pytest.mark.parametrize("state", STATES)
def test_without_a_script_what_passes_by_itself_is_loaded_again(state: State) -> None:
    html = render(msgspec.structs.replace(PLACED, state=state), texts_in("en")).decode()
    refresh = (
        '<noscript><meta http-equiv="refresh" content="8;url=/waiting-room/shop?next=%2Fcheckout%3Fa%3D1%26b%3D2">'
    )
    assert (refresh in html) == (state in {"waiting", "ready", "full", "paused", "unavailable", "busy"})
    assert html.count("http-equiv") == html.count(refresh)


def test_somebody_who_waits_sees_place_people_wait_and_since_when() -> None:
    shown = " ".join(page_of("waiting").text)
    for text in ("4\u20137", "minutes", "240 people are ahead of you", "Your place 241", "In line since 10:03 UTC"):
        assert text in shown
    assert "<title>4\u20137 min · Autumn concert</title>" in render(PLACED, texts_in("en")).decode()


def test_what_is_not_known_is_not_told() -> None:
    unknown = Page(state="waiting", base="/waiting-room/shop", position=0, people_ahead=0)
    shown = " ".join(Parsed(render(unknown, texts_in("en"))).text)
    assert "We cannot say yet how long" in shown
    for text in ("Your place", "ahead", "next", "since", "minute"):
        assert text not in shown


@pytest.mark.parametrize("state", ["paused", "ready", "join", "expired"])
def test_no_wait_is_told_where_nobody_waits_for_the_door(state: State) -> None:
    assert "4\u20137" not in " ".join(page_of(state).text)


def test_an_approximate_place_is_called_so() -> None:
    shown = " ".join(Parsed(render(msgspec.structs.replace(PLACED, approximate=True), texts_in("en"))).text)
    assert "About 240 people are ahead of you" in shown
    assert "Your place about 241" in shown


@pytest.mark.parametrize("state", STATES)
def test_no_input_becomes_markup(state: State) -> None:
    """A title, message, logo, event id or target is shown as it is, and adds no element, attribute or style sheet."""
    fields = ("title", "message", "logo", "accent", "base", "event_id", "next_url", "joined_at")
    tame = msgspec.structs.replace(PLACED, state=state, **dict.fromkeys(fields, "tame"))
    wild = msgspec.structs.replace(PLACED, state=state, **dict.fromkeys(fields, HOSTILE))
    calm, odd = (Parsed(render(page, texts_in("en"))) for page in (tame, wild))
    assert [(tag, list(attributes)) for tag, attributes in odd.elements] == [
        (tag, list(attributes)) for tag, attributes in calm.elements
    ]
    assert HOSTILE in odd.text
    assert odd.first("main")["data-next"] == HOSTILE


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(state: State, lang: str) -> None:
    page = page_of(state, lang)
    for tag, attributes in page.elements:
        assert tag not in {"style", "base", "iframe", "object"}
        assert [name for name in attributes if name.startswith("on") or name == "style"] == []
        assert tag != "script" or attributes["src"].startswith(PATH)
        assert tag != "link" or attributes["href"].startswith(PATH)
        assert attributes.get("src", "/").startswith("/")
    assert [text for text in page.text if "alert(" in text] == []


def test_whatever_it_names_is_served() -> None:
    urls = [attributes.get("href") or attributes.get("src", "") for _, attributes in page_of("waiting").elements]
    named = [url.removeprefix(PATH) for url in urls if url.startswith(PATH)]
    assert len(named) == 4
    for name in named:
        answer = load_assets().answer(name)
        assert answer is not None
        assert dict(answer.headers)["cache-control"].endswith("immutable")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_page_style_script_icon_and_accent_are_below_40_kb_even_uncompressed(lang: str) -> None:
    page = render(PLACED, texts_in(lang))
    names = [url.removeprefix(PATH) for url in re.findall(rf'"({PATH}[^"]+)"', page.decode())]
    answers = [answer for name in names if (answer := load_assets().answer(name)) is not None]
    assert len(answers) == 4
    assert len(page) + sum(len(answer.body) for answer in answers) < 40 * 1024
    zipped = [answer for name in names if (answer := load_assets().answer(name, "gzip")) is not None]
    assert len(gzip.compress(page)) + sum(len(answer.body) for answer in zipped) < 16 * 1024


def test_a_page_that_many_get_is_compressed_once_it_is_asked_for_again() -> None:
    page, texts = Page(state="join", base="/waiting-room/many", next_url="/checkout"), texts_in("en")
    plain = render(page, texts)
    assert shared(page, texts).body(zipped=True) == (plain, False)
    body, zipped = shared(page, texts).body(zipped=True)
    assert zipped
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 2
    assert shared(page, texts).body(zipped=False) == (plain, False)
    other = msgspec.structs.replace(page, next_url="/other")
    assert shared(other, texts).body(zipped=False) == (render(other, texts), False)


def test_no_place_and_no_long_address_is_kept() -> None:
    assert is_shared(Page(state="join", base="/waiting-room/many"))
    assert not is_shared(PLACED)
    assert not is_shared(Page(state="waiting", base="/waiting-room/many", position=0))
    assert not is_shared(Page(state="join", base="/waiting-room/many", next_url="/" + "x" * 1024))


def policy(page: Page) -> dict[str, str]:
    """The directives of its CSP."""
    directives = dict(headers(page))["content-security-policy"].split("; ")
    return dict((directive.split(" ", 1)) for directive in directives)


def test_the_policy_allows_our_own_files_alone_and_no_frame_elsewhere() -> None:
    found = policy(PLACED)
    assert found.pop("default-src") == "'none'"
    assert found.pop("base-uri") == "'none'"
    assert set(found.values()) == {"'self'"}
    assert set(found) == {"script-src", "style-src", "connect-src", "img-src", "form-action", "frame-ancestors"}


def test_a_form_may_lead_to_the_target_and_the_logo_may_be_where_its_operator_put_it() -> None:
    page = msgspec.structs.replace(PLACED, next_url="https://shop.example:8443/x?y", logo="https://cdn.example/a.svg")
    assert policy(page)["form-action"] == "'self' https://shop.example:8443"
    assert policy(page)["img-src"] == "'self' https://cdn.example"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//evil.example/",
        "https://a;b/",
        "https://a b/",
        "https://[",
        "https://u@h/",
        "data:,",
        "https://*/",
    ],
)
def test_no_url_widens_the_policy_in_another_way(url: str) -> None:
    page = msgspec.structs.replace(PLACED, next_url=url, logo=url)
    assert policy(page) == policy(PLACED)
