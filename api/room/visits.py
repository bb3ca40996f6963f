"""A visitor's request for a room, as far as it is the same whatever they do: the site, where they go afterwards, and
what their browser can be answered with.
"""

import os
import time
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from api.http.errors import HttpError
from api.http.request import Request, query_parameter
from api.http.response import Header, Response, retry_after
from api.room.assets import takes_gzip
from api.room.pages import Page, headers, is_shared, render, shared
from api.room.texts import State, Texts, language, texts_in
from api.serving.next_url import ROOM_PATH, as_location, is_safe
from api.serving.sites import Site

RETRY_SECONDS = 5

_STATUS = {
    "bad_link": 400,
    "refused": 403,
    "refused_address": 403,
    "refused_event": 403,
    "refused_hash": 403,
    "refused_often": 403,
    "refused_time": 403,
    "not_found": 404,
    "unknown_site": 404,
    "unavailable": 503,
    "busy": 503,
}
_PASSES_BY = frozenset({"unavailable", "busy"})

_PROBE_SECONDS = 60
_MOST_QUERY = 1024
"""Characters of a query that is remembered."""


class Visit(NamedTuple):
    """A request for the room of an event: the site behind it, and where the visitor goes afterwards."""

    event_id: str
    site: Site
    next_url: str

    @property
    def base(self) -> str:
        """The path below which forms and scripts ask."""
        return f"{ROOM_PATH}{self.event_id}"

    @property
    def url(self) -> str:
        """The page itself."""
        return f"{self.base}?next={quote(self.next_url, safe='')}"


def find_next(request: Request, site: Site) -> str | None:
    """Where the visitor goes afterwards: `home` if they ask for nothing, None if they ask for what is elsewhere."""
    find = _find_next if len(request.query) <= _MOST_QUERY else _find_next.__wrapped__
    return find(request.query, site.room.home, site.room.targets)


@lru_cache(maxsize=1024)
def _find_next(query: str, home: str, targets: tuple[str, ...]) -> str | None:
    asked = query_parameter(query, "next") or home
    return as_location(asked) if is_safe(asked, targets) else None


def refuse_foreign(request: Request) -> None:
    """Raises HttpError 403 if another site sends this."""
    sites = request.header_values("sec-fetch-site")
    foreign = bool(sites) and sites[-1].lower() == "cross-site"
    if origins := request.header_values("origin"):
        host = (request.header("x-forwarded-host") or request.header("host") or "").lower()
        foreign |= origins[-1].lower().partition("://")[2] != host
    if foreign:
        raise HttpError(403, "FOREIGN_ORIGIN", "another site may not do this for a visitor")


def probed_url(visit: Visit) -> str:
    """The page once more, to see whether the browser keeps cookies."""
    return f"{visit.url}&probe={int(time.time())}"


def was_probed(request: Request) -> bool:
    """Whether a cookie was set just now. Later the same address was bookmarked, restored, or sent by a friend."""
    sent = request.query_parameter("probe")
    return sent.isdecimal() and len(sent) <= 12 and abs(time.time() - int(sent)) < _PROBE_SECONDS


def new_probe() -> str:
    """What a probe cookie says."""
    return os.urandom(16).hex()


def page_of(visit: Visit, state: State, **place: object) -> Page:
    """The page of a room, as its operator has it."""
    room = visit.site.room
    return Page(
        state=state,
        base=visit.base,
        event_id=visit.event_id,
        title=room.title,
        message=room.message,
        logo=room.logo,
        accent=room.accent,
        next_url=visit.next_url,
        **place,  # type: ignore[arg-type] # fields of Page, all of them named where this is called
    )


def page_response(request: Request, page: Page) -> Response:
    """A page in the visitor's language, with the status that its state has."""
    status = _STATUS.get(page.state, 200)
    extra: tuple[Header, ...] = (retry_after(RETRY_SECONDS),) if page.state in _PASSES_BY else ()
    if not is_shared(page):
        return Response(status, render(page, texts_for(request)), (*headers(page), *extra))
    wanted = takes_gzip(", ".join(request.header_values("accept-encoding")))
    body, zipped = shared(page, texts_for(request)).body(zipped=wanted)
    if zipped:
        extra = (*extra, ("content-encoding", "gzip"))
    return Response(status, body, (*headers(page), *extra))


def texts_for(request: Request) -> Texts:
    """The texts in the visitor's language."""
    return texts_in(language(", ".join(request.header_values("accept-language"))))


def wants_json(request: Request) -> bool:
    """Whether the page's script asks, not the browser itself."""
    return any("application/json" in value for value in request.header_values("accept"))


def see_other(url: str, *cookies: Header) -> Response:
    """Sends a browser to another page."""
    return Response(303, b"", (("location", url), ("cache-control", "no-store"), *cookies))
