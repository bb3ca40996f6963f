"""Somebody who listens: one open stream of Server-Sent Events, and what was told on it."""

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from shared.tokens.signer import WaitingToken

_NOTICEABLE_S, _NOTICEABLE = 3.0, 0.1
"""A wait is told anew when it is off by more than this: s, and a part of it."""

_KEEP_ALIVE = b": keep-alive\n\n"

Render = Callable[[bytes], bytes]
"""Makes the JSON that a listener is sent out of that of the status answer."""

Goodbye = Literal["drain", "renewal"]
"""Why somebody is sent away who may come back at once: the process ends, or the stream is as old as it may become."""

End = Literal["admitted", "gone", "left", Goodbye]
"""Why a stream ended. `left`: its client went away."""


def event(name: str, data: bytes, retry_ms: int | None = None) -> bytes:
    """A Server-Sent Event. `data` is JSON, which never has a line break outside its strings, nor inside them."""
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%sevent: %s\ndata: %s\n\n" % (retry, name.encode(), data)


def goodbye(reason: Goodbye, after_ms: int) -> bytes:
    """The last event of a stream: when to come back."""
    return event("bye", msgspec.json.encode({"reason": reason, "reconnect_ms": after_ms}), after_ms)


class Seen(NamedTuple):
    """What somebody sees of their place, beside the wait."""

    status: str
    position: int
    paused: bool
    full: bool
    reason: str
    """Why waits have become longer."""


class Listener:
    """The chunks of one stream. One that has not been sent yet is replaced by what is newer.

    Times are in s on the loop's clock.
    """

    __slots__ = (
        "_closed",
        "_eta",
        "_eta_at",
        "_loop",
        "_next",
        "_seen",
        "_skipped",
        "_wake",
        "due",
        "end_reason",
        "ends_at",
        "event_id",
        "is_far",
        "lease",
        "look_at",
        "render",
        "ticket",
        "token",
        "told_at",
        "trace_id",
    )

    def __init__(
        self,
        token: WaitingToken,
        text: str,
        render: Render,
        trace_id: str,
        *,
        ends_at: float,
        skipped: Callable[[], None],
        closed: "Callable[[Listener], None]",
    ) -> None:
        self.event_id, self.ticket, self.lease = token.event_id, token.ticket, token.lease
        self.token = text
        """The newest; '' when the lease is newer than any token that was signed."""
        self.render, self.trace_id = render, trace_id
        self.ends_at = ends_at
        """When the stream is as old as it may become."""
        self.told_at = 0.0
        """When something was last sent."""
        self.look_at = 0.0
        """When to look again where they stand."""
        self.due = 0.0
        """When to look again, or to keep the stream alive."""
        self.is_far = False
        """Whether their place came from memory the last time."""
        self.end_reason: End | None = None
        self._skipped, self._closed = skipped, closed
        self._loop = asyncio.get_running_loop()
        self._seen: Seen | None = None
        self._eta: float | None = None
        self._eta_at = 0.0
        self._next = b""
        self._wake: asyncio.Future[None] | None = None

    @property
    def status(self) -> str:
        """What they were last told: waiting, ready; '' nothing yet."""
        return self._seen.status if self._seen else ""

    def notices(self, seen: Seen, eta: float | None, now: float) -> bool:
        """Whether this is news. `eta` in s."""
        if seen != self._seen or (eta is None) != (self._eta is None):
            return True
        if eta is None or self._eta is None:
            return False
        return abs(eta - (self._eta - (now - self._eta_at))) > max(_NOTICEABLE_S, _NOTICEABLE * eta)

    def remember(self, seen: Seen, eta: float | None, now: float) -> None:
        """This was sent."""
        self._seen, self._eta, self._eta_at = seen, eta, now

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> bytes:
        while not self._next:
            if self.end_reason:
                raise StopAsyncIteration
            self._wake = self._loop.create_future()
            await self._wake
        chunk, self._next = self._next, b""
        return chunk

    async def aclose(self) -> None:
        """The stream is over."""
        self.end("left")
        self._closed(self)

    def offer(self, chunk: bytes, now: float) -> None:
        """Sends a chunk."""
        if self._next:
            self._skipped()
        self._next, self.told_at = chunk, now
        self._wake_up()

    def keep_alive(self, now: float) -> None:
        """Sends a comment, unless there is something to be sent already."""
        self._next, self.told_at = self._next or _KEEP_ALIVE, now
        self._wake_up()

    def end(self, reason: End, last: bytes = b"") -> None:
        """Ends the stream, after a last chunk."""
        if self.end_reason:
            return
        self.end_reason = reason
        if last:
            self._next = last
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
