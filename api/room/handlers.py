"""The waiting room: a page for people. It keeps their place and their pass in cookies, and sends them on."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from api.contract.errors import translate
from api.contract.schemas import JoinResponse
from api.gate.asked import is_navigation
from api.gate.cookies import Cookies
from api.gate.passes import Passes, Verdict, genuine
from api.http.errors import HttpError
from api.http.request import Request
from api.http.response import AnyResponse, Header, Response, json_response, retry_after, rfc3339
from api.http.router import Route
from api.queue.batched_line import BatchedLine
from api.queue.handlers import Queue
from api.queue.identity import Identity, idempotency_key
from api.queue.join_limit import JoinLimit
from api.queue.stream import Streams
from api.room.assets import PATH as ASSETS
from api.room.assets import load_assets
from api.room.exits import Exits
from api.room.pages import Page, headers, render
from api.room.places import PlaceView
from api.room.texts import State
from api.room.visits import (
    RETRY_SECONDS,
    Visit,
    find_next,
    new_probe,
    page_of,
    page_response,
    probed_url,
    refuse_foreign,
    see_other,
    texts_for,
    wants_json,
    was_probed,
)
from api.serving.next_url import ROOM_PATH
from api.serving.position_cache import PositionCache
from api.serving.pulse import Pulse
from api.serving.sites import Site, Sites
from shared.errors import DaegiError, InvalidTokenError
from shared.line.line import Join, Line
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import PassToken, Signer, WaitingToken

_STATE_OF: dict[str, State] = {"OVERLOADED": "busy", "RATE_LIMITED": "busy", "UNAVAILABLE": "unavailable"}
"""What a page says of a refusal, by its code."""


_NOT_YET = frozenset({"NOT_READY", "EVENT_PAUSED"})
"""Refusals of an enter that leave the place as it is."""


class _LetIn(NamedTuple):
    """Somebody has a good pass: where they go with it, and the cookies that they need."""

    url: str
    cookies: tuple[Header, ...]

    @property
    def told(self) -> dict[str, str]:
        """What the page's script is told."""
        return {"location": self.url}


_Act = Callable[[Request, Visit], Awaitable[Response]]


class Room:
    """The handlers of /waiting-room. A GET joins nobody: previews and crawlers leave no place behind."""

    def __init__(
        self,
        line: Line,
        queue: Queue,
        batched: BatchedLine,
        *,
        signer: Signer,
        sites: Sites,
        passes: Passes,
        cookies: Cookies,
        exits: Exits,
        positions: PositionCache,
        identity: Identity,
        join_limit: JoinLimit | None,
        pulse: Pulse,
        metrics: Metrics,
        streams: Streams,
    ) -> None:
        self._line, self._batched, self._queue, self._signer = line, batched, queue, signer
        self._sites, self._passes, self._cookies, self._positions = sites, passes, cookies, positions
        self._identity, self._join_limit, self._pulse, self._exits = identity, join_limit, pulse, exits
        self._walk_ins = metrics.counter("daegi_walk_ins", "Visitors who came in without waiting")
        self._view, self._streams = PlaceView(positions), streams
        self._decode_join = msgspec.json.Decoder(JoinResponse).decode

    def routes(self) -> list[Route]:
        """Pages for people: they are no part of the described API."""
        return [
            # Before the others: no event that is named `-` has a room (ROOMLESS).
            Route("GET", f"{ASSETS}{{name*}}", self.asset),
            Route("GET", f"{ROOM_PATH}{{event_id}}", self.show),
            Route("GET", f"{ROOM_PATH}{{event_id}}/place", self.place),
            Route("GET", f"{ROOM_PATH}{{event_id}}/live", self.live),
            Route("POST", f"{ROOM_PATH}{{event_id}}/join", self.join),
            Route("POST", f"{ROOM_PATH}{{event_id}}/enter", self.enter),
            Route("POST", f"{ROOM_PATH}{{event_id}}/leave", self.leave),
        ]

    async def asset(self, request: Request) -> Response:
        """GET /waiting-room/-/{name}: style, script and icon."""
        encoding, match = request.header("accept-encoding") or "", request.header("if-none-match") or ""
        answer = load_assets().answer(request.parameters["name"], encoding, match)
        if answer is None:
            raise HttpError(404, "NOT_FOUND", "there is nothing at this path")
        return answer

    def refusal_page(self, request: Request, event_id: str, next_url: str) -> Response:
        """What the gate answers to a form that was sent without a pass: nothing of it has been done."""
        page = Page(state="not_sent", base=f"{ROOM_PATH}{event_id}", event_id=event_id, next_url=next_url)
        return Response(429, render(page, texts_for(request)), (*headers(page), retry_after(RETRY_SECONDS)))

    async def show(self, request: Request) -> Response:
        """GET /waiting-room/{event_id}?next="""
        return await self._in_words(request, self._show)

    def outage_page(self, request: Request, event_id: str, next_url: str) -> Response:
        """What the gate answers to a person while Redis is unavailable."""
        page = Page(state="unavailable", base=f"{ROOM_PATH}{event_id}", event_id=event_id, next_url=next_url)
        return page_response(request, page)

    async def join(self, request: Request) -> Response:
        """POST /waiting-room/{event_id}/join"""
        return await self._acted(request, self._join)

    async def _join(self, request: Request, visit: Visit) -> Response:
        if let_in := await self._renewed_pass(request, visit):
            return _sent_on(request, let_in)
        if self._join_limit is not None:
            self._join_limit.take(request)
        who = self._identity.identify(request, None)
        # The visitor's own first: two tabs that join at the same time are one person.
        key = self._visitor_key(request, visit) or idempotency_key(request)
        if key:
            key += blake2b(who, digest_size=8).digest()
        answer = await self._batched.join(visit.event_id, Join(key, who))
        if not isinstance(answer, Response):
            raise answer
        joined = self._decode_join(answer.body)
        cookie = self._cookies.set_waiting(request, visit.event_id, joined.waiting_token)
        return answer.adding((cookie,)) if wants_json(request) else see_other(visit.url, cookie)

    async def place(self, request: Request) -> Response:
        """GET /waiting-room/{event_id}/place"""
        visit = await self._visit(request)
        if not self._cookies.waiting(request, visit.event_id) and (let_in := await self._renewed_pass(request, visit)):
            return _sent_on(request, let_in)
        token = self._waiting(request, visit)
        answer = await self._queue.status_of(token)
        status = self._view.read(answer.body)
        cookie = self._cookies.set_waiting(request, visit.event_id, status.waiting_token)
        after = retry_after(-(-status.poll_after_ms // 1000))
        return json_response(200, self._view.told(status, visit), after, cookie)

    async def live(self, request: Request) -> AnyResponse:
        """GET /waiting-room/{event_id}/live: what /place says, as soon as it changes."""
        visit = await self._visit(request)
        if not self._cookies.waiting(request, visit.event_id) and (let_in := await self._renewed_pass(request, visit)):
            return self._streams.only(let_in.told, *let_in.cookies)
        token = self._waiting(request, visit)
        answer = await self._streams.first(token)
        cookie = self._cookies.set_waiting(request, visit.event_id, self._view.read(answer.body).waiting_token)
        return self._streams.begin(request, answer, self._view.render(visit), cookie)

    async def enter(self, request: Request) -> Response:
        """POST /waiting-room/{event_id}/enter"""
        return await self._acted(request, self._go_in)

    async def _go_in(self, request: Request, visit: Visit) -> Response:
        if let_in := await self._renewed_pass(request, visit):
            return _sent_on(request, let_in)
        text = self._waiting(request, visit)
        return _sent_on(request, await self._enter(request, visit, self._signer.verify_waiting(text)))

    async def leave(self, request: Request) -> Response:
        """POST /waiting-room/{event_id}/leave"""
        return await self._acted(request, self._leave)

    async def _leave(self, request: Request, visit: Visit) -> Response:
        for _, token in self._places(self._cookies.waiting(request, visit.event_id), visit.event_id):
            await self._batched.leave(visit.event_id, token.ticket)
        forget = self._cookies.forget_waiting(request, visit.event_id)
        if wants_json(request):
            return json_response(200, {"status": "left"}, forget)
        return self._page(request, visit, "left").adding((forget,))

    async def _show(self, request: Request, visit: Visit) -> Response:
        if let_in := await self._renewed_pass(request, visit):
            return see_other(let_in.url, *let_in.cookies)
        if waiting := self._cookies.waiting(request, visit.event_id):
            return await self._show_place(request, visit, waiting)
        probed = self._cookies.probe(request, visit.event_id)
        if probed is None:
            if was_probed(request):
                return self._page(request, visit, "cookies_off")
            cookie = self._cookies.set_probe(request, visit.event_id, new_probe())
            return see_other(probed_url(visit), cookie)
        if is_navigation(request, request.method) and (let_in := await self._walk_in(request, visit)):
            return see_other(let_in.url, *let_in.cookies)
        return self._page(request, visit, "join")

    async def _show_place(self, request: Request, visit: Visit, waiting: list[str]) -> Response:
        try:
            token = self._newest(waiting, visit.event_id)
            answer = await self._queue.status_of(token)
        except (HttpError, InvalidTokenError):
            return self._expired(request, visit)
        status = self._view.read(answer.body)
        if status.status != "waiting" and is_navigation(request, request.method):
            try:
                let_in = await self._enter(request, visit, self._signer.verify_waiting(token))
                return see_other(let_in.url, *let_in.cookies)
            except HttpError as error:
                if error.code not in _NOT_YET:
                    return self._expired(request, visit)
        cookie = self._cookies.set_waiting(request, visit.event_id, status.waiting_token)
        low, high = status.eta_range_sec or (None, None)
        ticket = self._signer.verify_waiting(token).ticket
        return self._page(
            request,
            visit,
            self._view.state(status, visit),
            position=status.position,
            people_ahead=max(0, status.position - 1),
            eta_low_s=low,
            eta_high_s=high,
            joined_at=rfc3339(ticket),
            poll_after_ms=status.poll_after_ms,
            approximate=status.approximate,
        ).adding((cookie,))

    def _expired(self, request: Request, visit: Visit) -> Response:
        forget = self._cookies.forget_waiting(request, visit.event_id)
        return self._page(request, visit, "expired").adding((forget,))

    async def _renewed_pass(self, request: Request, visit: Visit) -> _LetIn | None:
        """Somebody whose pass is still good: another of their tabs, or a friend's click, was faster.

        The cookie is set anew: else room and gate would send each other the visitor. For the same reason Redis is
        asked: another process's gate may know of a release, or of a later time, already.
        """
        for token in genuine(self._cookies.passes(request, visit.event_id), self._signer, visit.event_id):
            if renewed := await self._renewed(visit, token):
                return self._let_in(request, visit, renewed)
        return None

    async def _renewed(self, visit: Visit, token: PassToken) -> PassToken | None:
        """A pass with the end that its session has from now on; None if that is over."""
        honoured = await self._passes.honour(token, visit.site, ask=True, fixed=self._exits.fixes(visit))
        if honoured.verdict is not Verdict.GOOD:
            return None
        return msgspec.structs.replace(token, until=honoured.until or token.until)

    async def _walk_in(self, request: Request, visit: Visit) -> _LetIn | None:
        """Somebody who need not wait, if nobody does."""
        if self._positions.somebody_waits(visit.event_id):
            # A crowd that looks at the page costs Redis nothing.
            return None
        if self._join_limit is not None:
            try:
                self._join_limit.take(request)
            except HttpError:
                return None
        who = self._identity.identify(request, None)
        walked = await self._line.walk_in(visit.event_id, who, grace=self._pulse.grace)
        if walked is None:
            return None
        self._walk_ins.add()
        token = PassToken(visit.event_id, walked.ticket, walked.entered, walked.until)
        arrived = await self._arrived(visit, token)
        return self._let_in(request, visit, arrived) if arrived else None

    async def _enter(self, request: Request, visit: Visit, token: WaitingToken) -> _LetIn:
        """Lets somebody in from the line. Raises HttpError if it is not their turn."""
        entered = await self._queue.let_in(token)
        new = PassToken(token.event_id, token.ticket, entered.entered, entered.until)
        arrived = await self._arrived(visit, new)
        if arrived is None:
            raise HttpError(404, "TOKEN_EXPIRED", "this session was ended elsewhere")
        let_in = self._let_in(request, visit, arrived)
        return let_in._replace(
            cookies=(
                *let_in.cookies,
                self._cookies.forget_waiting(request, visit.event_id),
                # Joins are told apart by it: whoever comes again joins anew, with a new place.
                self._cookies.set_probe(request, visit.event_id, new_probe()),
            )
        )

    async def _arrived(self, visit: Visit, token: PassToken) -> PassToken | None:
        """A new pass as its holder leaves with it. Where they go nobody tells us that they came, so they have now."""
        return await self._renewed(visit, token) if self._exits.fixes(visit) else token

    def _let_in(self, request: Request, visit: Visit, token: PassToken) -> _LetIn:
        """What everybody gets who has a good pass."""
        text = self._signer.pass_token(token.event_id, token.ticket, token.entered, token.until)
        return _LetIn(self._exits.url(request, visit, token), (self._cookies.set_pass(request, visit.event_id, text),))

    async def _visit(self, request: Request) -> Visit:
        """Raises HttpError 404 for an event without a room, 400 for a `next` elsewhere."""
        site = await self._site(request)
        next_url = find_next(request, site)
        if next_url is None:
            raise HttpError(
                400, "INVALID_REQUEST", "next has to be a path of this site, or of one of the event's targets"
            )
        return Visit(request.parameters["event_id"], site, next_url)

    async def _site(self, request: Request) -> Site:
        """Raises HttpError 404 for an event without a room."""
        site = await self._sites.get(request.parameters["event_id"])
        if site is None:
            raise HttpError(404, "EVENT_NOT_FOUND", "there is no such event")
        return site

    async def _acted(self, request: Request, act: _Act) -> Response:
        """The answer to a request that changes something: for a script in JSON, for a form as a page or a way to one.

        Raises HttpError 403 if another site sends it.
        """
        refuse_foreign(request)
        if wants_json(request):
            return await act(request, await self._visit(request))
        return await self._in_words(request, act)

    async def _in_words(self, request: Request, act: _Act) -> Response:
        """What a person is answered, also if it is refused: a page."""
        event_id = request.parameters["event_id"]
        base, visit = f"{ROOM_PATH}{quote(event_id, safe='')}", None
        try:
            site = await self._site(request)
            next_url = find_next(request, site)
            visit = Visit(event_id, site, next_url or site.room.home)
            if next_url is None:
                return self._page(request, visit, "bad_link")
            return await act(request, visit)
        except (HttpError, DaegiError) as error:
            refusal = error if isinstance(error, HttpError) else translate(error)
            if refusal is None:
                raise
            if refusal.code == "EVENT_NOT_FOUND":
                return page_response(request, Page(state="not_found", base=base))
            if state := _STATE_OF.get(refusal.code):
                bare = Page(state=state, base=base)
                page = self._page(request, visit, state) if visit else page_response(request, bare)
                return Response(refusal.status, page.body, page.headers)
            if visit is None or request.method != "POST":
                raise
            # The page tells how it stands: their place, or that there is none.
            return see_other(visit.url)

    def _waiting(self, request: Request, visit: Visit) -> str:
        waiting = self._cookies.waiting(request, visit.event_id)
        if not waiting:
            raise HttpError(400, "MISSING_TOKEN", "there is no place in line in the cookies: join")
        return self._newest(waiting, visit.event_id)

    def _newest(self, waiting: list[str], event_id: str) -> str:
        """The first that is ours and of this event. Raises InvalidTokenError if there is none."""
        for text, _ in self._places(waiting, event_id):
            return text
        raise InvalidTokenError

    def _places(self, waiting: list[str], event_id: str) -> Iterator[tuple[str, WaitingToken]]:
        """Those that are ours and of this event: what another event's say is somebody else's ticket here."""
        for text in waiting:
            with suppress(InvalidTokenError):
                token = self._signer.verify_waiting(text)
                if token.event_id == event_id:
                    yield text, token

    def _visitor_key(self, request: Request, visit: Visit) -> bytes:
        """The probe cookie makes one join of a double click, and one person of two tabs."""
        probe = self._cookies.probe(request, visit.event_id)
        return blake2b(probe.encode(), digest_size=16).digest() if probe else b""

    def _page(self, request: Request, visit: Visit, state: State, **place: object) -> Response:
        return page_response(request, page_of(visit, state, **place))


def _sent_on(request: Request, let_in: _LetIn) -> Response:
    """Sends somebody who was let in there: the page's script goes by itself."""
    if wants_json(request):
        return json_response(200, let_in.told, *let_in.cookies)
    return see_other(let_in.url, *let_in.cookies)
