"""What a proxy asks about: the URL and method of the visitor's request, in the words of the proxy."""

from typing import Literal, NamedTuple
from urllib.parse import quote

from api.http.request import Request

Dialect = Literal["nginx", "forwarded", "envoy"]

MOST_URL = 1024
"""Bytes of a URL that are carried along; of a longer one the path alone is: proxies bound headers to some KB."""

_HEADERS: dict[Dialect, tuple[str, str]] = {
    "nginx": ("x-original-uri", "x-forwarded-method"),
    "forwarded": ("x-forwarded-uri", "x-forwarded-method"),
}


class Asked(NamedTuple):
    """The visitor's request: `url` is its path and query, None if the proxy did not tell; `method` '' likewise."""

    url: str | None
    method: str

    @classmethod
    def read(cls, request: Request, dialect: Dialect) -> "Asked":
        """From the proxy's request. What is missing, there twice or cannot be read is not told."""
        if dialect == "envoy":
            # The server has decoded the path: a % in it was %25.
            url = quote(request.parameters.get("rest", ""), safe="/:@!$&'()*+,;=~-._")
            return cls(_bounded(f"{url}?{request.query}" if request.query else url), request.method)
        uri, method = _HEADERS[dialect]
        return cls(_bounded(_single(request, uri)), (_single(request, method) or "").upper())


def is_preflight(request: Request, dialect: Dialect) -> bool:
    """Whether a browser asks what it may do: it sends no cookies with that, and the site has to answer."""
    asks = request.header_values("access-control-request-method")
    return bool(asks) and Asked.read(request, dialect).method == "OPTIONS"


def is_document(request: Request) -> bool:
    """Whether a person would look at the answer: a page that they go to, not one that is fetched ahead."""
    for name in ("sec-purpose", "purpose"):
        if any(value.strip().lower().startswith("prefetch") for value in request.header_values(name)):
            return False
    if modes := request.header_values("sec-fetch-mode"):
        return modes[-1].strip().lower() == "navigate"
    return any("text/html" in value.lower() for value in request.header_values("accept"))


def is_navigation(request: Request, method: str) -> bool:
    """Whether they can be sent to another page: a document that is asked for by GET."""
    return method == "GET" and is_document(request)


def _single(request: Request, name: str) -> str | None:
    values = request.header_values(name)
    return values[0] if len(values) == 1 else None


def _bounded(url: str | None) -> str | None:
    if not url or not url.startswith("/"):
        return None
    if len(url) <= MOST_URL:
        return url
    path = url.partition("?")[0]
    return path if len(path) <= MOST_URL else None
