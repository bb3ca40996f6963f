"""What a browser does with our waiting page, and its script (api/room/assets/room.js), without a browser."""

import random
import re
import zlib
from functools import lru_cache
from typing import Final

from tests.support.browser import Page

NAVIGATION: Final = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}
GONE: Final = frozenset({"TOKEN_EXPIRED", "ALREADY_REDEEMED", "INVALID_TOKEN", "MISSING_TOKEN"})
"""Codes by which the script knows that a place is gone."""
FIRST_RETRY: Final = 2.0
"""Seconds after which the script asks again, at least."""
LONGEST_RETRY: Final = 60.0
"""And at most."""
_STATE: Final = re.compile(rb'data-state="(\w+)"')
_HEAD_BYTES: Final = 8192


def script_headers(origin: str) -> dict[str, str]:
    """Of a call of the script."""
    return {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Origin": origin}


def form_headers(origin: str) -> dict[str, str]:
    """Of a form that is sent."""
    return {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Origin": origin}


def back_off(failures: int, retry_after: float, chance: random.Random) -> float:
    """Seconds until the script asks again after so many failures in a row; not before Retry-After."""
    most = min(FIRST_RETRY * 2.0 ** (failures - 1), LONGEST_RETRY)
    return max(most * chance.uniform(0.5, 1), retry_after * chance.uniform(1, 1.25))


def state_of(page: Page) -> str:
    """What a page of the room says of somebody's place, '' if it is no such page."""
    content = page.content
    if page.header("content-encoding") == "gzip":
        content = _unzipped(content)
    found = _STATE.search(content)
    return found[1].decode() if found else ""


@lru_cache(maxsize=64)
def _unzipped(content: bytes) -> bytes:
    """Its beginning: most visitors get the same page."""
    return zlib.decompressobj(wbits=31).decompress(content, _HEAD_BYTES)


class Jar:
    """The cookies of one browser for one site."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def keep(self, page: Page) -> list[tuple[str, str]]:
        """Does what an answer's Set-Cookie says; returns what was set."""
        kept = []
        for header, cookie in page.headers:
            if header == "set-cookie":
                pair, *attributes = cookie.split("; ")
                name, _, value = pair.partition("=")
                if "Max-Age=0" in attributes:
                    self._values.pop(name, None)
                else:
                    self._values[name] = value
                    kept.append((name, value))
        return kept

    def headers(self) -> dict[str, str]:
        """What goes with a request."""
        if not self._values:
            return {}
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self._values.items())}

    def has(self, part: str) -> bool:
        """Whether there is a cookie with this in its name."""
        return any(part in name for name in self._values)

    def copy(self) -> "Jar":
        """As they are now."""
        jar = Jar()
        jar._values = dict(self._values)
        return jar
