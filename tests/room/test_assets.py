"""Files under their content's hash, and an accent on which everything can be read."""

import gzip
import re
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.http.response import Response
from api.room.accent import NIGHT, PAPER, contrast, six_digits, style_sheet
from api.room.assets import PATH, Assets, accent_url, load_assets

NAMES = ("style.css", "room.js", "icon.svg")


def answered(name: str, accept_encoding: str = "", if_none_match: str = "") -> tuple[Response, dict[str, str]]:
    found = load_assets().answer(name, accept_encoding, if_none_match)
    assert found is not None
    return found, dict(found.headers)


def hashed(name: str) -> str:
    return load_assets().url(name).removeprefix(PATH)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_sent_as_it_is_or_zipped_and_kept_for_ever(name: str) -> None:
    content = (files("api.room") / "assets" / name).read_bytes()
    plain, of_plain = answered(hashed(name))
    zipped, of_zipped = answered(hashed(name), "br, gzip")
    assert plain.body == content
    assert "content-encoding" not in of_plain
    assert gzip.decompress(zipped.body) == content
    assert of_zipped["content-encoding"] == "gzip"
    assert of_plain["etag"] != of_zipped["etag"]
    for headers in (of_plain, of_zipped):
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["vary"] == "accept-encoding"
        assert headers["x-content-type-options"] == "nosniff"


def test_browsers_are_told_what_it_is() -> None:
    media = {name: answered(hashed(name))[1]["content-type"] for name in NAMES}
    assert media == {
        "style.css": "text/css; charset=utf-8",
        "room.js": "text/javascript; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }


@pytest.mark.parametrize(
    ("accept", "zipped"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("br", False),
        ("*", True),
        ("x-gzip-like", False),
    ],
)
def test_gzip_is_sent_only_to_those_who_take_it(accept: str, zipped: bool) -> None:
    assert ("content-encoding" in answered(hashed("room.js"), accept)[1]) == zipped


def test_what_somebody_has_is_not_sent_again() -> None:
    for encoding in ("", "gzip"):
        _, headers = answered(hashed("room.js"), encoding)
        for tag in (headers["etag"], f"W/{headers['etag']}", f'"other", {headers["etag"]}', "*"):
            again, of_again = answered(hashed("room.js"), encoding, tag)
            assert (again.status, again.body, of_again["etag"]) == (304, b"", headers["etag"])
        assert answered(hashed("room.js"), encoding, '"other"')[0].status == 200


def test_a_name_changes_with_its_content() -> None:
    one, other = Assets({"room.js": b"1"}), Assets({"room.js": b"2"})
    assert one.url("room.js") != other.url("room.js")
    assert one.url("room.js") == Assets({"room.js": b"1"}).url("room.js")


def test_a_page_of_another_version_gets_the_file_that_is_here_but_does_not_keep_it() -> None:
    found, headers = answered("room-0123456789.js")
    assert found.body == answered(hashed("room.js"))[0].body
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "room.js",
        "page.html",
        "room-0123456789.css",
        "../pages.py",
        "room-0123456789.js/",
        "accent-12345.css",
        "accent-GGGGGG.css",
    ],
)
def test_nothing_else_is_served(name: str) -> None:
    assert load_assets().answer(name) is None


def test_an_accent_is_a_style_sheet_of_its_own() -> None:
    assert accent_url("#1aF") == accent_url("11aaff") == f"{PATH}accent-11aaff.css"
    found, headers = answered("accent-11aaff.css", "gzip")
    assert headers["content-type"].startswith("text/css")
    assert headers["cache-control"].endswith("immutable")
    assert "--accent:#11aaff" in gzip.decompress(found.body).decode()


@pytest.mark.parametrize("accent", ["", "red", "#12345", "#1234567", "#12345g", "url(x)", "11aaff;}", "11aaff\n"])
def test_what_is_no_colour_is_no_accent(accent: str) -> None:
    assert six_digits(accent) is None
    assert accent_url(accent) is None


@given(st.integers(0, 0xFFFFFF))
@example(0x000000)
@example(0xFFFFFF)
@example(0x777777)
@example(0xFFF200)
def test_on_and_in_any_accent_everything_can_be_read(number: int) -> None:
    """4.5 to 1, which WCAG 2.2 AA asks of text."""
    sheet = style_sheet(f"{number:06x}").decode()
    light, dark = sheet.split("@media")
    accent, on_accent, ink = (colour(light, name) for name in ("accent", "on-accent", "accent-ink"))
    assert contrast(accent, on_accent) >= 4.5
    assert contrast(ink, PAPER) >= 4.5
    assert contrast(colour(dark, "accent-ink"), NIGHT) >= 4.5


def test_the_colours_of_the_style_sheet_can_be_read_too() -> None:
    style = (files("api.room") / "assets" / "style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    assert (colour(light, "paper"), colour(dark, "paper")) == (PAPER, NIGHT)
    for part, background in ((light, PAPER), (dark, NIGHT)):
        for name in ("ink", "quiet", "accent-ink"):
            assert contrast(colour(part, name), background) >= 4.5, name
        assert contrast(colour(part, "accent"), colour(part, "on-accent")) >= 4.5


def test_contrast_is_what_wcag_says_it_is() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)


def colour(css: str, name: str) -> tuple[int, int, int]:
    """A custom property's colour, as red, green and blue."""
    found = re.search(rf"--{name}:\s*#([0-9a-f]+)", css)
    assert found is not None
    digits = six_digits(found[1])
    assert digits is not None
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
