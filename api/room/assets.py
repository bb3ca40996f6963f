"""Style, script and icon, under names that hold their content's hash; each event's accent as a style sheet."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from api.http.response import Header, Response
from api.room.accent import six_digits, style_sheet

PATH = "/waiting-room/-/"
"""Where they are served."""

_MEDIA = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_SERVED = ("style.css", "room.js", "icon.svg")
_NAME = re.compile(r"(style|room|icon)-[0-9a-f]{10}\.(css|js|svg)")
_ACCENT_NAME = re.compile(r"accent-([0-9a-f]{6})\.css")
_FOR_EVER = "public, max-age=31536000, immutable"
_CODINGS = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?P<quality>[\d.]+)\s*)?(?:,|$)", re.ASCII)


class Asset(NamedTuple):
    """One file as it is served."""

    name: str
    media: str
    plain: bytes
    zipped: bytes
    digest: str

    def answer(self, accept_encoding: str, if_none_match: str, *, lasting: bool = True) -> Response:
        """200 or 304. `lasting` is False for a name of another version's: nobody should keep ours under it."""
        zipped = len(self.zipped) < len(self.plain) and takes_gzip(accept_encoding)
        # Two encodings are two representations, and their strong ETags differ.
        etag = f'"{self.digest}-gzip"' if zipped else f'"{self.digest}"'
        headers: tuple[Header, ...] = (
            ("cache-control", _FOR_EVER if lasting else "no-cache"),
            ("etag", etag),
            ("vary", "accept-encoding"),
            ("x-content-type-options", "nosniff"),
        )
        if any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in if_none_match.split(",")):
            return Response(304, b"", headers)
        headers = (*headers, ("content-type", self.media))
        if zipped:
            return Response(200, self.zipped, (*headers, ("content-encoding", "gzip")))
        return Response(200, self.plain, headers)


class Assets:
    """All of them, by their names."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._assets = {name: _asset(name, content) for name, content in contents.items()}

    def url(self, name: str) -> str:
        """Where a file such as `style.css` is served."""
        return PATH + self._assets[name].name

    def answer(self, name: str, accept_encoding: str = "", if_none_match: str = "") -> Response | None:
        """The answer to a GET of PATH + name, None if there is no such file.

        During a rolling restart pages and files come from different versions: a name with another hash is answered
        with the file that is here, which is not to be cached.
        """
        if found := _ACCENT_NAME.fullmatch(name):
            return _accent(found[1]).answer(accept_encoding, if_none_match)
        if not (found := _NAME.fullmatch(name)) or not (asset := self._assets.get(f"{found[1]}.{found[2]}")):
            return None
        return asset.answer(accept_encoding, if_none_match, lasting=asset.name == name)


@cache
def load_assets() -> Assets:
    """The files beside this module, compressed."""
    folder = files("api.room") / "assets"
    return Assets({name: (folder / name).read_bytes() for name in _SERVED})


def accent_url(accent: str) -> str | None:
    """Where an accent's style sheet is served; None for what is no colour."""
    digits = six_digits(accent)
    return f"{PATH}accent-{digits}.css" if digits else None


@lru_cache(maxsize=256)
def takes_gzip(accept_encoding: str) -> bool:
    """Whether Accept-Encoding allows gzip."""
    found = _CODINGS.search(accept_encoding.lower())
    return found is not None and (found["quality"] or "1").strip("0.") != ""


@lru_cache(maxsize=256)
def _accent(digits: str) -> Asset:
    return _asset("accent.css", style_sheet(digits))


def _asset(name: str, content: bytes) -> Asset:
    stem, _, kind = name.partition(".")
    digest = hashlib.blake2b(content, digest_size=5).hexdigest()
    return Asset(f"{stem}-{digest}.{kind}", _MEDIA[kind], content, gzip.compress(content, 9, mtime=0), digest)
