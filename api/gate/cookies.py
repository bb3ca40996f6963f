"""The cookies of a visitor: which place in line is theirs, and which pass."""

from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from api.http.request import Request
from api.http.response import Header

MOST_VALUES = 16
"""Cookies of one name that are looked at: a page of the site may have set some of ours on another path or domain."""


@lru_cache(maxsize=4096)
def cookie_name(kind: Literal["p", "t", "v", "w"], event_id: str) -> str:
    """The name of an event's pass (p), second try (t), probe (v) or waiting token (w), without the prefix that it has
    over https.
    """
    return f"daegi_{kind}_{blake2b(event_id.encode(), digest_size=5).hexdigest()}"


class Cookies:
    """Reads and writes them. They last as long as the browser runs, unless a time is named.

    `secure` None: on requests that came over https, as X-Forwarded-Proto tells. A `domain` shares them with subdomains.
    """

    def __init__(self, *, secure: bool | None, domain: str | None) -> None:
        self._secure, self._domain = secure, domain

    def passes(self, request: Request, event_id: str) -> list[str]:
        """Every pass that the visitor sent for this event."""
        return self._values(request, cookie_name("p", event_id))

    def waiting(self, request: Request, event_id: str) -> list[str]:
        """Every waiting token that they sent."""
        return self._values(request, cookie_name("w", event_id))

    def probe(self, request: Request, event_id: str) -> str | None:
        """What shows that their browser keeps cookies, and that two requests come from one person."""
        values = self._values(request, cookie_name("v", event_id))
        return values[0] if values and len(values[0]) <= 64 else None

    def set_probe(self, request: Request, event_id: str, value: str) -> Header:
        """The header that asks for it."""
        return self._set(request, cookie_name("v", event_id), value)

    def tries_again(self, request: Request, event_id: str) -> bool:
        """Whether set_second_try() was sent to this browser a short while ago."""
        return bool(self._values(request, cookie_name("t", event_id)))

    def set_second_try(self, request: Request, event_id: str, seconds: int) -> Header:
        """The header that remembers for a while that something is tried once more."""
        return self._set(request, cookie_name("t", event_id), "1", f"Max-Age={seconds:d}")

    def set_pass(self, request: Request, event_id: str, token: str) -> Header:
        """The header that gives them a pass."""
        return self._set(request, cookie_name("p", event_id), token)

    def set_waiting(self, request: Request, event_id: str, token: str) -> Header:
        """The header that gives them a place in line."""
        return self._set(request, cookie_name("w", event_id), token)

    def forget_pass(self, request: Request, event_id: str) -> Header:
        """The header that takes the pass away."""
        return self._set(request, cookie_name("p", event_id), "", "Max-Age=0")

    def forget_waiting(self, request: Request, event_id: str) -> Header:
        """The header that takes the place away."""
        return self._set(request, cookie_name("w", event_id), "", "Max-Age=0")

    def is_secure(self, request: Request) -> bool:
        """Whether the visitor's own connection is encrypted."""
        if self._secure is not None:
            return self._secure
        return (request.header("x-forwarded-proto") or "").partition(",")[0].strip().lower() == "https"

    def _values(self, request: Request, name: str) -> list[str]:
        full_name, values = self._full_name(name, secure=True), []
        for header in request.header_values("cookie"):
            if name not in header:
                continue
            for part in header.split(";"):
                known, separator, value = part.strip().partition("=")
                # Over https one without the prefix may come from a subdomain: whoever has its probe has the same place.
                if separator and (known == full_name or (known == name and not self.is_secure(request))):
                    values.append(value.strip('"'))
        return values[:MOST_VALUES]

    def _set(self, request: Request, name: str, value: str, *attributes: str) -> Header:
        secure = self.is_secure(request)
        parts = [f"{self._full_name(name, secure=secure)}={value}", "Path=/", "HttpOnly", "SameSite=Lax", *attributes]
        if secure:
            parts.append("Secure")
        if self._domain:
            parts.append(f"Domain={self._domain}")
        return "set-cookie", "; ".join(parts)

    def _full_name(self, name: str, *, secure: bool) -> str:
        # With the prefix a browser takes it from this very host alone, over https.
        return f"__Host-{name}" if secure and not self._domain else name
