"""Passes: honoured from memory for as long as they are known to be good, renewed now and then, in batches."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

import structlog

from api.serving.batcher import Batcher, Deliver
from api.serving.clock import RedisClock
from api.serving.load_shedding import PendingLimit
from api.serving.pulse import Pulse
from api.serving.sites import Site
from shared.errors import DaegiError, OverloadedError, UnavailableError
from shared.line.line import Line, Renewal
from shared.telemetry.metrics import Metrics
from shared.tokens.signer import PassToken

_log = structlog.get_logger(__name__)

MOST_TICKETS = 100_000
"""Tickets remembered, about 200 bytes each. Who is forgotten is asked for again: nothing is lost."""

_BATCH_SIZES = (1, 4, 16, 64, 256)
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


class Passes:
    """What this process knows of the passes shown to it.

    A pass is good until its own word or a later renewal seen here runs out, on session time: the highest time of
    Redis's clock that was ever seen, so that a clock that jumps back revives nothing. A renewal is due when less than
    7/8 of the session TTL are left. A pass found gone is remembered as gone, with the end that it claimed: after a
    lapse its ticket may be let in again, and then has a pass with a later one. A released ticket never has: those are
    learnt before the first pass of an event is honoured, then once a second, and none of them is forgotten meanwhile.
    """

    def __init__(self, line: Line, clock: RedisClock, pulse: Pulse, pending: PendingLimit, metrics: Metrics) -> None:
        self._line, self._clock, self._pulse = line, clock, pulse
        # When its session ends as far as is known here; negative: passes that claim to last until then are gone.
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._renewing: dict[tuple[str, int], asyncio.Future[int]] = {}
        # The released tickets of each event, as they were last read, and those that were released here since then.
        self._released: dict[str, AbstractSet[int]] = {}
        self._released_here: dict[str, set[int]] = {}
        self._learning: dict[str, asyncio.Future[None]] = {}
        sizes = metrics.histogram("daegi_renewals", "Sessions renewed in one script call", bounds=_BATCH_SIZES)
        self._batcher: Batcher[Renewal, int] = Batcher(self._flush, pending, sizes.labelled())
        self._highest = 0
        self._seen: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    def now(self) -> int | None:
        """Session time in ms; None until Redis has answered once."""
        now = self._clock.now()
        if now is None:
            return None
        self._highest = max(self._highest, now)
        return self._highest

    async def honour(self, token: PassToken, site: Site | None) -> Honoured:
        """What a pass of ours is worth now. Asks Redis only if it has run out here, or if a renewal is due.

        Without the event's site, which cannot be read while Redis is away, it asks nobody.
        """
        key, now = (token.event_id, token.ticket), self.now()
        if now is not None:
            self._seen[token.event_id] = now
            if token.event_id not in self._versions:
                await self._learn_first(token.event_id)
        known = self._known.get(key, 0)
        if self._is_released(token.event_id, token.ticket) or (known < 0 and token.until <= -known):
            return Honoured(Verdict.GONE)
        until = max(token.until, known)
        good = now is not None and now < until
        if good and not (site and self._is_due(token, until, now or 0, site)):
            return Honoured(Verdict.GOOD, until if until > token.until else None)
        if site is None:
            return Honoured(Verdict.UNKNOWN)
        try:
            renewed = await self._renew(token, until)
        except (UnavailableError, OverloadedError):
            return Honoured(Verdict.GOOD if good else Verdict.UNKNOWN)
        return Honoured(Verdict.GOOD, renewed) if renewed else Honoured(Verdict.GONE)

    def forget(self, event_id: str, ticket: int) -> None:
        """This ticket was released here: it is good no more."""
        self._released_here.setdefault(event_id, set()).add(ticket)

    async def run(self) -> None:
        """Learns once a second, until cancelled, which passes were released elsewhere."""
        while True:
            await asyncio.sleep(random.uniform(0.8, 1.0))
            now = self.now() or 0
            self._seen = {event_id: at for event_id, at in self._seen.items() if now - at < _ACTIVE_MS}
            for event_id in (self._versions.keys() | self._released_here.keys()) - self._seen.keys():
                for kept in (self._versions, self._released, self._released_here):
                    kept.pop(event_id, None)
            for event_id in list(self._seen):
                try:
                    await self._learn_released(event_id)
                except DaegiError as error:
                    _log.debug("releases are not known", event_id=event_id, error=str(error))
                except Exception:  # noqa: BLE001 - one event's fault must not blind the others
                    _log.exception("releases could not be read", event_id=event_id)

    async def drain(self) -> None:
        """Waits for the renewals in flight."""
        await self._batcher.drain()

    async def _learn_first(self, event_id: str) -> None:
        """Learns what was released of an event that was not watched, once however many ask."""
        learning = self._learning.get(event_id)
        if learning is None:
            learning = self._learning[event_id] = asyncio.ensure_future(self._learn_released(event_id))
            learning.add_done_callback(lambda _: self._learning.pop(event_id, None))
        # Without Redis nobody can know: passes are good as they say.
        with suppress(DaegiError):
            await asyncio.shield(learning)

    async def _learn_released(self, event_id: str) -> None:
        if self._line.is_away(event_id):
            return
        here = frozenset(self._released_here.get(event_id, ()))
        ended = await self._line.ended(event_id, self._versions.get(event_id, -1))
        self._versions[event_id] = ended.version
        self._highest = max(self._highest, ended.session_clock)
        if ended.tickets is not None:
            self._released[event_id] = ended.tickets
            # What was released here before is among them, or its passes have run out.
            self._released_here.get(event_id, set()).difference_update(here)

    def _is_released(self, event_id: str, ticket: int) -> bool:
        return ticket in self._released.get(event_id, ()) or ticket in self._released_here.get(event_id, ())

    def _is_due(self, token: PassToken, until: int, now: int, site: Site) -> bool:
        at_the_limit = site.session_limit is not None and until >= token.entered + site.session_limit
        return not at_the_limit and until - now < site.session_ttl * 7 / 8

    async def _renew(self, token: PassToken, until: int) -> int:
        """The new end of a session, however many ask at once."""
        key = token.event_id, token.ticket
        renewing = self._renewing.get(key)
        if renewing is None:
            renewing = self._batcher.submit(token.event_id, Renewal(token.ticket, until, token.entered))
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
        self._known[key] = until
        self._known.move_to_end(key)
        if len(self._known) > MOST_TICKETS:
            self._known.popitem(last=False)
