"""Passes: honoured from memory for as long as they are known to be good, renewed now and then, in batches."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import structlog

from api.serving.batcher import Batcher, Deliver
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.pulse import Pulse
from api.serving.sites import Site
from shared.errors import DaegiError, InvalidTokenError, OverloadedError, UnavailableError
from shared.line.line import Line, Renewal
from shared.line.replies import Ended
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import PassToken, Signer

_log = structlog.get_logger(__name__)

MOST_TICKETS = 100_000
"""Tickets remembered, about 200 bytes each. Who is forgotten is asked for again: nothing is lost."""

_BATCH_SIZES = (1, 4, 16, 64, 256)
_RELEASED = -(1 << 62)
_ACTIVE_MS = 60_000
"""An event whose passes nobody showed for this long is no longer watched for releases."""


class Verdict(Enum):
    """What a pass is worth."""

    GOOD = "good"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It has run out as far as is known here, and Redis cannot be asked."""


class Honoured(NamedTuple):
    """A verdict; `until` (ms) is set when the pass was renewed just now, and the visitor needs the new one."""

    verdict: Verdict
    until: int | None = None


def genuine(texts: Iterable[str], signer: Signer, event_id: str) -> list[PassToken]:
    """Which of these are passes of ours for this event, the one that lasts longest first."""
    found = []
    for text in texts:
        try:
            token = signer.verify_pass(text)
        except InvalidTokenError:
            continue
        if token.event_id == event_id:
            found.append(token)
    found.sort(key=lambda token: -token.until)
    return found


class Passes:
    """What this process knows of the passes shown to it.

    A pass is good until its own word or a later renewal seen here runs out, on session time: the highest time of
    Redis's clock that was ever seen, so that a clock that jumps back revives nothing. A renewal is due when less than
    7/8 of the session TTL are left. A pass found gone is remembered as gone, with the end that it claimed: after a
    lapse its ticket may be let in again, and then has a pass with a later one. A released ticket never has.
    """

    def __init__(self, line: Line, clock: RedisClock, pulse: Pulse, pending: PendingLimit, metrics: Metrics) -> None:
        self._line, self._clock, self._pulse, self._pending = line, clock, pulse, pending
        # When its session ends as far as is known here; negative: passes that claim to last until then are gone.
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._renewing: dict[tuple[str, int], asyncio.Future[int]] = {}
        sizes = metrics.histogram("daegi_renewals", "Sessions renewed in one script call", bounds=_BATCH_SIZES)
        self._batcher: Batcher[Renewal, int] = Batcher(self._flush, pending, sizes.labelled())
        self._highest = 0
        self._seen: dict[str, int] = {}
        self._released: dict[str, Ended] = {}
        self._learning: dict[str, asyncio.Task[None]] = {}

    def now(self) -> int | None:
        """Session time in ms; None until Redis has answered once."""
        now = self._clock.now()
        if now is None:
            return None
        self._highest = max(self._highest, now)
        return self._highest

    async def honour(self, token: PassToken, site: Site | None, *, ask: bool = False, fixed: bool = False) -> Honoured:
        """What a pass of ours is worth now. Redis is asked if it has run out here, if a renewal is due, or on `ask`.

        Without the event's site, which could not be read because Redis is unavailable, nobody is asked. A session that
        is `fixed` is lengthened at the arrival alone.
        """
        key = token.event_id, token.ticket
        known = self._known.get(key, 0)
        if known < 0 and token.until <= -known:
            return Honoured(Verdict.GONE)
        if token.event_id not in self._released:
            # Nobody showed a pass of it for a while, and what was released meanwhile is good nowhere.
            await self._learn_once(token.event_id)
        until, now = max(token.until, known), self.now()
        if now is not None:
            self._seen[token.event_id] = now
        if self._was_released(token):
            return Honoured(Verdict.GONE)
        good = now is not None and now < until
        # Whoever is inside does not wait for a refusal: their pass can be renewed later.
        if good and not ask and (not self._is_due(token, until, now or 0, site) or self._pending.is_full):
            return Honoured(Verdict.GOOD, until if until > token.until else None)
        if site is None:
            return Honoured(Verdict.UNKNOWN)
        try:
            renewed = await self._renew(token, until, fixed=fixed)
        except (UnavailableError, OverloadedError):
            return Honoured(Verdict.GOOD if good else Verdict.UNKNOWN)
        return Honoured(Verdict.GOOD, renewed) if renewed else Honoured(Verdict.GONE)

    def forget(self, event_id: str, ticket: int) -> None:
        """This ticket was released here: it is good no more."""
        self._remember((event_id, ticket), _RELEASED)

    async def run(self) -> None:
        """Learns once a second, until cancelled, which passes were released elsewhere."""
        while True:
            await asyncio.sleep(random.uniform(0.8, 1.0))
            now = self.now() or 0
            self._seen = {event_id: at for event_id, at in self._seen.items() if now - at < _ACTIVE_MS}
            self._released = {event_id: it for event_id, it in self._released.items() if event_id in self._seen}
            for event_id in list(self._seen):
                await self._learn_released(event_id)

    async def drain(self) -> None:
        """Waits for the renewals in flight."""
        await self._batcher.drain()

    def _was_released(self, token: PassToken) -> bool:
        ended = self._released.get(token.event_id)
        return ended is not None and token.ticket in (ended.tickets or ())

    async def _learn_once(self, event_id: str) -> None:
        """Learns what was released, once for all that wait for it."""
        learning = self._learning.get(event_id)
        if learning is None:
            learning = self._learning[event_id] = asyncio.create_task(self._learn_released(event_id))
            learning.add_done_callback(lambda _: self._learning.pop(event_id, None))
        await asyncio.shield(learning)

    async def _learn_released(self, event_id: str) -> None:
        """Learns what was released, if Redis tells: whoever is cut off from it cannot know."""
        if self._line.is_away(event_id):
            return
        known = self._released.get(event_id)
        try:
            ended = await self._line.ended(event_id, known.version if known else -1)
        except DaegiError as error:
            _log.debug("releases are not known", event_id=event_id, error=str(error))
            return
        except Exception:  # noqa: BLE001 - one event's fault must not blind the others
            _log.exception("releases could not be read", event_id=event_id)
            return
        self._highest = max(self._highest, ended.session_clock)
        # Not among the tickets in _known, of which the oldest are forgotten: these must not be.
        if ended.tickets is not None:
            self._released[event_id] = ended

    def _is_due(self, token: PassToken, until: int, now: int, site: Site | None) -> bool:
        if site is None:
            return False
        at_the_limit = site.session_limit is not None and until >= token.entered + site.session_limit
        return not at_the_limit and until - now < site.session_ttl * 7 / 8

    async def _renew(self, token: PassToken, until: int, *, fixed: bool) -> int:
        """The new end of a session, however many ask at once."""
        key = token.event_id, token.ticket
        renewing = self._renewing.get(key)
        if renewing is None:
            renewing = self._batcher.submit(token.event_id, Renewal(token.ticket, until, token.entered, fixed))
            self._renewing[key] = renewing
            renewing.add_done_callback(lambda _: self._renewing.pop(key, None))
        # Others may wait for it when this visitor goes away.
        renewed = await asyncio.shield(renewing)
        self._remember(key, renewed or -until)
        return renewed

    async def _flush(self, event_id: str, renewals: list[Renewal], deliver: "Deliver[int]") -> None:
        if self._line.is_away(event_id):
            raise UnavailableError
        try:
            renewed = await self._line.renew(event_id, renewals, grace=self._pulse.grace)
        except UnavailableError:
            self._pulse.check_now()
            raise
        self._highest = max(self._highest, renewed.now)
        deliver(renewed.ends)

    def _remember(self, key: tuple[str, int], until: int) -> None:
        # What was released stays released: an answer that was on its way does not revive it.
        if self._known.get(key) != _RELEASED:
            self._known[key] = until
        self._known.move_to_end(key)
        if len(self._known) > MOST_TICKETS:
            self._known.popitem(last=False)
