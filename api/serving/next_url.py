"""Where a visitor goes after the room: a path of this host, or of an origin that the operator has named."""

import posixpath
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

ROOM_PATH: Final = "/waiting-room/"

ROOMLESS: Final = frozenset({"-", ".", ".."})
"""Events that can have no room: its address would be that of the assets, or one that browsers shorten."""

_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")
_UNFIT_ENCODED = re.compile(r"[\x00-\x1f\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_safe(url: str, targets: Sequence[str]) -> bool:
    """Whether a visitor may be sent there.

    A path has to stay on this host: no `//`, also once its dot segments are gone, no backslash and no control
    character, which browsers read as other things, and not the room itself, which would go around in circles. An
    absolute URL has to have the origin of a target, compared in its parts, and no user in front of its host.
    """
    if _UNFIT.search(url) or _UNFIT_ENCODED.search(unquote(url)):
        return False
    if url.startswith("/"):
        return _is_local(url)
    origin = _origin(url)
    return origin is not None and origin in {_origin(target) for target in targets}


def is_origin(text: str) -> bool:
    """Whether this is an origin: scheme, host (in ASCII) and perhaps a port, and nothing more."""
    if not text.isascii() or _UNFIT.search(text) or "?" in text:
        return False
    return _origin(text) is not None and urlsplit(text).path in {"", "/"}


def as_location(url: str) -> str:
    """A URL as a header can carry it: a character that is not ASCII is percent-encoded, as browsers do."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~")


def is_elsewhere(url: str) -> bool:
    """Whether a URL that is safe leads to another origin."""
    return not url.startswith("/")


def with_parameter(url: str, name: str, value: str) -> str:
    """A URL with this parameter at the end of its query, in place of those of the same name.

    The rest stays as it is, to the byte: a site may have signed it. `value` has to be fit for a query.
    """
    rest, hash_sign, fragment = without_parameter(url, name).partition("#")
    path, _, query = rest.partition("?")
    return f"{path}?{query}{'&' if query else ''}{name}={value}{hash_sign}{fragment}"


def without_parameter(url: str, name: str) -> str:
    """A URL without any parameter of this (lower-case) name, however it is spelled there."""
    rest, hash_sign, fragment = url.partition("#")
    path, _, query = rest.partition("?")
    parts = query.split("&")
    kept = [part for part in parts if unquote_plus(part.partition("=")[0]).lower() != name]
    if len(kept) == len(parts):
        return url
    return f"{path}{'?' if kept else ''}{'&'.join(kept)}{hash_sign}{fragment}"


def _is_local(url: str) -> bool:
    path = url.partition("?")[0].partition("#")[0]
    for spelled in (path, unquote(path)):
        # normpath keeps two slashes at the beginning, as POSIX has it.
        resolved = posixpath.normpath(spelled)
        if spelled.startswith("//") or resolved.startswith("//") or "//" in spelled[:2]:
            return False
        if f"{resolved}/".lower().startswith(ROOM_PATH):
            return False
    # Segments that lead up may leave two slashes in front: /.//host, /x/..//host.
    return not _leads_away(path) and not _leads_away(unquote(path))


def _leads_away(path: str) -> bool:
    """Whether a browser, which removes dot segments and keeps empty ones, would be left with `//`."""
    left: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            left = left[:-1]
        elif segment != ".":
            left.append(segment)
    if segments[-1] in {".", ".."}:
        left.append("")
    return len(left) > 1 and left[0] == ""


def _origin(url: str) -> tuple[str, str, int] | None:
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return scheme, parts.hostname.lower(), _DEFAULT_PORTS[scheme] if port is None else port
