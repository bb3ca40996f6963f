"""Sites with one of Queue-it's connectors (KnownUser V3): their visitors come from there, and go back with a token.

A connector asks nobody: it sends browsers to its queueDomain, which is PATH on our host, and trusts what we sign.

    /waiting-room/-/q/?c=&e=&t=                 without a token or cookie of its own: to the room
    /waiting-room/-/q/error/{code}/?c=&e=&t=    it has refused a token
    /waiting-room/-/q/cancel/...                the visitor is done: their session ends

Paths and parameters are those of queueit/KnownUser.V3.Javascript, .PHP and .JAVA (3.6, 3.7) and of
@queue-it/connector-javascript 5.0.1. Others that they send (ver, cver, man, cid, l, icr, ts, enqueuetoken) are ignored.
"""

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import structlog

from api.gate.cookies import Cookies
from api.gate.passes import Passes, genuine
from api.http.request import Request
from api.http.response import Header, Response
from api.http.router import Route
from api.queue.client_address import ClientAddress, written
from api.room.assets import PATH as ASSETS
from api.room.pages import Page
from api.room.texts import State
from api.room.visits import Visit, page_of, page_response, see_other
from api.serving.next_url import ROOM_PATH, as_location, is_elsewhere, is_safe, with_parameter, without_parameter
from api.serving.sites import Room, Sites
from shared.errors import DaegiError, InvalidTokenError
from shared.line.line import Line
from shared.tokens.connector import CONNECTOR_EVENT_ID, PARAMETER, VALID_SECONDS, ConnectorTokens
from shared.tokens.signer import PassToken, Signer

_log = structlog.get_logger(__name__)

PATH: Final = f"{ASSETS}q"
"""The queueDomain of our sites, after the host."""

_MINUTE_MS = 60_000
_SLACK_MS = 2000
"""A pass that was given just now is good for a little less than its whole time."""

_SECOND_TRY_SECONDS = 60
_MOST_SESSIONS = 16
"""Sessions that one cancel may end."""

_REFUSED: Mapping[str, State] = {
    "hash": "refused_hash",
    "timestamp": "refused_time",
    "eventid": "refused_event",
    "ip": "refused_address",
    # A cookie of the connector that is bound to another address.
    "connector/sessionstate": "refused_address",
    "qidlimit": "refused_often",
}
"""What a page says, by the connector's code."""


class Connector:
    """The handlers below PATH, and the tokens that visitors go back with.

    `addresses`: whose address a token is bound to; None binds them to none.
    """

    def __init__(
        self,
        customer: str,
        tokens: ConnectorTokens,
        *,
        addresses: ClientAddress | None,
        line: Line,
        signer: Signer,
        sites: Sites,
        passes: Passes,
        cookies: Cookies,
    ) -> None:
        self._customer, self._tokens, self._addresses = customer, tokens, addresses
        self._line, self._signer = line, signer
        self._sites, self._passes, self._cookies = sites, passes, cookies

    def routes(self) -> list[Route]:
        """They go before the room's, whose assets would take every path below theirs."""
        return [
            Route("GET", PATH, self.queue),
            Route("GET", f"{PATH}/", self.queue),
            Route("GET", f"{PATH}/error/{{code*}}", self.error),
            Route("GET", f"{PATH}/cancel/{{whose*}}", self.cancel),
        ]

    def serves(self, visit: Visit) -> bool:
        """Whether the visit leads to a site whose connector understands our tokens."""
        return is_elsewhere(visit.next_url) and CONNECTOR_EVENT_ID.fullmatch(visit.event_id) is not None

    def with_token(self, request: Request, visit: Visit, token: PassToken, url: str) -> str:
        """The URL to which the visit leads, with a token for as long as the pass is good."""
        whole = visit.site.session_ttl
        left = min(whole, token.until + _SLACK_MS - (self._passes.now() or 0))
        address = self._addresses.of(request) if self._addresses else None
        signed = self._tokens.sign(
            visit.event_id,
            self._signer.ticket_uuid(visit.event_id, token.ticket),
            valid_until=int(time.time()) + VALID_SECONDS,
            # With 0 a connector would take a time of its own.
            minutes=max(1, left // _MINUTE_MS),
            address=written(address) if address else None,
        )
        return with_parameter(url, PARAMETER, signed)

    async def queue(self, request: Request) -> Response:
        """GET /waiting-room/-/q/?c=&e=&t="""
        visit = await self._visit(request)
        return see_other(visit.url) if isinstance(visit, Visit) else page_response(request, visit)

    async def error(self, request: Request) -> Response:
        """GET /waiting-room/-/q/error/{code}/?c=&e=&t="""
        visit = await self._visit(request)
        if isinstance(visit, Page):
            return page_response(request, visit)
        code = request.parameters["code"].strip("/").lower()
        # It may have been under way for too long. If clocks differ, so they will the next time.
        if code == "timestamp" and not self._cookies.tries_again(request, visit.event_id):
            return see_other(visit.url, self._cookies.set_second_try(request, visit.event_id, _SECOND_TRY_SECONDS))
        return page_response(request, page_of(visit, _REFUSED.get(code, "refused")))

    async def cancel(self, request: Request) -> Response:
        """GET /waiting-room/-/q/cancel/{c}/{e}/{queue id}?r=, or .../cancel/multiple/{c}?wrl={e}~{queue id}_...&r=

        A queue id is its own proof. Without a genuine one, as some old connectors ask, nothing is changed.
        """
        customer, named = _named(request)
        if customer != self._customer:
            return page_response(request, Page(state="unknown_site", base=ROOM_PATH))
        tickets = {event_id: ticket for event_id, queue_id in named if (ticket := self._ticket(event_id, queue_id))}
        rooms: list[Room] = []
        forget: list[Header] = []
        # A forged one costs no more than any link to a room.
        for event_id in tickets or [named[0][0]]:
            try:
                site = await self._sites.get(event_id)
            except DaegiError:
                return page_response(request, Page(state="unavailable", base=f"{ROOM_PATH}{event_id}"))
            if site is None:
                continue
            rooms.append(site.room)
            if event_id in tickets:
                forget += await self._end(request, event_id, tickets[event_id])
        if not rooms:
            return page_response(request, Page(state="not_found", base=ROOM_PATH))
        after = without_parameter(request.query_parameter("r"), PARAMETER)
        fits = any(is_safe(after, room.targets) for room in rooms)
        return see_other(as_location(after if fits else rooms[0].home), *forget)

    def _ticket(self, event_id: str, queue_id: str) -> int | None:
        """The ticket of a queue id, None if it is not one of ours."""
        try:
            return self._signer.ticket_of_uuid(event_id, queue_id)
        except InvalidTokenError:
            return None

    async def _end(self, request: Request, event_id: str, ticket: int) -> list[Header]:
        """Ends a session. The cookies to forget, if it was the visitor's own."""
        try:
            await self._line.release(event_id, [ticket])
        except DaegiError as error:
            # The visitor need not wait for it: what is not released ends by itself.
            _log.warning("a session could not be released", event_id=event_id, error=str(error))
            return []
        self._passes.forget(event_id, ticket)
        own = genuine(self._cookies.passes(request, event_id), self._signer, event_id)
        if all(token.ticket != ticket for token in own):
            return []
        return [self._cookies.forget_pass(request, event_id), self._cookies.forget_waiting(request, event_id)]

    async def _visit(self, request: Request) -> Visit | Page:
        """The visit of an event's room that a connector asks for, or a page that says why there is none."""
        event_id = request.query_parameter("e")
        target = without_parameter(request.query_parameter("t"), PARAMETER)
        base = f"{ROOM_PATH}{quote(event_id, safe='')}"
        if request.query_parameter("c") != self._customer:
            return Page(state="unknown_site", base=base)
        try:
            site = await self._sites.get(event_id)
        except DaegiError:
            # Whether it is a target is seen when the page is loaded again.
            after = as_location(target) if is_elsewhere(target) and is_safe(target, (target,)) else "/"
            return Page(state="unavailable", base=base, event_id=event_id, next_url=after)
        if site is None:
            return Page(state="not_found", base=base)
        if not target:
            return Visit(event_id, site, site.room.home)
        if not is_elsewhere(target) or not is_safe(target, site.room.targets):
            return page_of(Visit(event_id, site, site.room.home), "bad_link")
        return Visit(event_id, site, as_location(target))


def _named(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """The customer, and events with queue ids ('' for none), that a cancel names."""
    parts = request.parameters["whose"].rstrip("/").split("/")
    if parts[0] == "multiple":
        listed = request.query_parameter("wrl").split("_", _MOST_SESSIONS)[:_MOST_SESSIONS]
        pairs = [one.partition("~") for one in listed]
        return "/".join(parts[1:]), [(event_id, queue_id) for event_id, _, queue_id in pairs]
    customer, event_id, queue_id = (*parts, "", "")[:3]
    return customer, [(event_id, queue_id)]
