"""The gate's answers, in the words of each proxy."""

import time
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from api.contract.schemas import ReleaseRequest, ReleaseResponse
from api.gate.asked import Asked, Dialect, is_document, is_navigation, is_preflight
from api.gate.cookies import Cookies
from api.gate.passes import Passes, Verdict, genuine
from api.http.errors import HttpError
from api.http.request import Request
from api.http.response import Header, Response, json_response
from api.serving.next_url import ROOM_PATH, is_safe
from api.serving.sites import Site, Sites
from shared.errors import InvalidTokenError, UnavailableError
from shared.line.line import Line
from shared.telemetry.metrics import Family, Metrics
from shared.tokens.signer import PassToken, Signer

_RETRY_SECONDS = 10
_OUTCOMES = ("pass", "preflight", "room", "refused", "open", "unavailable")
_NO_STORE: Header = ("cache-control", "no-store")


PageFor = Callable[[Request, str, str], Response]
"""A page for a person who asked for an event's site, with the URL that they may go on to."""


class Gate:
    """The handlers of /api/v1/gate. They join, admit and write nothing but renewals and releases."""

    def __init__(
        self,
        line: Line,
        signer: Signer,
        *,
        sites: Sites,
        passes: Passes,
        cookies: Cookies,
        fail_open_seconds: float,
        refusal_page: PageFor,
        outage_page: PageFor,
        metrics: Metrics,
    ) -> None:
        self._line, self._signer = line, signer
        self._sites, self._passes, self._cookies = sites, passes, cookies
        self._fail_open_seconds = fail_open_seconds
        self._refusal_page, self._outage_page = refusal_page, outage_page
        self._away_since: dict[str, float] = {}
        self._answers: Family = metrics.counter("daegi_gate_answers", "What the gate answered", "outcome")
        for outcome in _OUTCOMES:
            # One that appears with its first 1 has not grown, as Prometheus sees it.
            self._answers.add(0, outcome)
        self._decode_release = msgspec.json.Decoder(ReleaseRequest).decode

    async def authorize_nginx(self, request: Request) -> Response:
        """ANY /api/v1/gate/{event_id}/nginx/authorize"""
        return await self._authorize(request, "nginx")

    async def authorize_forwarded(self, request: Request) -> Response:
        """ANY /api/v1/gate/{event_id}/forwarded/authorize"""
        return await self._authorize(request, "forwarded")

    async def authorize_envoy(self, request: Request) -> Response:
        """ANY /api/v1/gate/{event_id}/envoy/authorize{rest}"""
        return await self._authorize(request, "envoy")

    async def release(self, request: Request) -> Response:
        """POST /api/v1/gate/{event_id}/release: by the pass cookie, or by a backend with the reservation token."""
        event_id = request.parameters["event_id"]
        tickets = [token.ticket for token in self._genuine(request, event_id)]
        headers: tuple[Header, ...] = (self._cookies.forget_pass(request, event_id),) if tickets else ()
        if not tickets:
            ask = await request.json(self._decode_release)
            reservation = self._signer.verify_reservation(ask.reservation_token or "")
            if reservation.event_id != event_id:
                raise InvalidTokenError
            tickets = [reservation.ticket]
        await self._line.release(event_id, tickets)
        for ticket in tickets:
            self._passes.forget(event_id, ticket)
        return json_response(200, ReleaseResponse("released"), *headers)

    async def _authorize(self, request: Request, dialect: Dialect) -> Response:
        event_id = request.parameters["event_id"]
        if is_preflight(request, dialect):
            return self._let_through("preflight")
        tokens = self._genuine(request, event_id)
        try:
            site = await self._sites.get(event_id)
        except UnavailableError:
            # Redis went away before this process was first asked about the event. Its passes are good all the same.
            if welcome := await self._by_pass(request, tokens, None):
                return welcome
            return self._unavailable(request, dialect, event_id)
        if site is None:
            raise HttpError(404, "EVENT_NOT_FOUND", "this event is not declared (admin PUT)")
        if welcome := await self._by_pass(request, tokens, site):
            return welcome
        if self._is_out(event_id):
            if self._stays_open(event_id, site):
                return self._let_through("open", ("x-daegi-mode", "open"))
            return self._unavailable(request, dialect, event_id)
        return self._to_the_room(request, dialect, event_id, site)

    async def _by_pass(self, request: Request, tokens: list[PassToken], site: Site | None) -> Response | None:
        """The answer to somebody with a good pass; it gives them the new one if it was renewed."""
        for token in tokens:
            verdict, until = await self._passes.honour(token, site)
            if verdict is Verdict.GOOD:
                headers: tuple[Header, ...] = (
                    ("x-daegi-ticket", str(token.ticket)),
                    ("x-daegi-event", token.event_id),
                    ("x-daegi-entered", str(token.entered)),
                )
                if until:
                    renewed = self._signer.pass_token(token.event_id, token.ticket, token.entered, until)
                    headers = (*headers, self._cookies.set_pass(request, token.event_id, renewed))
                return self._let_through("pass", *headers)
        return None

    def _genuine(self, request: Request, event_id: str) -> list[PassToken]:
        return genuine(self._cookies.passes(request, event_id), self._signer, event_id)

    def _let_through(self, outcome: str, *headers: Header) -> Response:
        self._answers.add(1, outcome)
        return Response(200, b"", (_NO_STORE, *headers))

    def _to_the_room(self, request: Request, dialect: Dialect, event_id: str, site: Site) -> Response:
        asked = Asked.read(request, dialect)
        after = asked.url if asked.url and is_safe(asked.url, site.room.targets) else site.room.home
        room = f"{ROOM_PATH}{event_id}?next={quote(after, safe='/')}"
        navigation = is_navigation(request, asked.method)
        self._answers.add(1, "room" if navigation else "refused")
        if dialect == "nginx":
            return Response(401 if navigation else 403, b"", (_NO_STORE, ("x-daegi-location", room)))
        if navigation:
            return Response(302, b"", (_NO_STORE, ("location", room)))
        if is_document(request):
            return self._refusal_page(request, event_id, after)
        message = "this site lets people in one after another: join the waiting room"
        raise HttpError(429, "WAITING_ROOM", message, retry_after=_RETRY_SECONDS, details={"room": room})

    def _is_out(self, event_id: str) -> bool:
        """Whether Redis cannot be asked; keeps since when."""
        if not self._line.is_away(event_id):
            self._away_since.pop(event_id, None)
            return False
        self._away_since.setdefault(event_id, time.monotonic())
        return True

    def _stays_open(self, event_id: str, site: Site) -> bool:
        away = time.monotonic() - self._away_since[event_id]
        return site.room.on_outage == "open" and away <= self._fail_open_seconds

    def _unavailable(self, request: Request, dialect: Dialect, event_id: str) -> Response:
        """503: a page for a person, unless the proxy shows its own. Raises UnavailableError for everybody else."""
        self._answers.add(1, "unavailable")
        if dialect == "nginx" or not is_document(request):
            raise UnavailableError
        asked = Asked.read(request, dialect)
        after = asked.url if asked.url and is_safe(asked.url, ()) else "/"
        return self._outage_page(request, event_id, after)
