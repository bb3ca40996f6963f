"""HTTP over raw ASGI: read a request, answer JSON, one envelope for every error."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from api.contract.schemas import ErrorCode, ErrorDetail, ErrorResponse
from shared import errors

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 16 * 1024
"""Bytes of a request's body; more is refused with 413."""

BODY_SECONDS = 10
"""Within this a body has to come, at most twice that."""

_TRACE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOSE = ((b"connection", b"close"),)
_encode = msgspec.json.Encoder().encode
BodyT = TypeVar("BodyT")


Header = tuple[bytes, bytes]
Response = tuple[int, bytes, tuple[Header, ...]]
"""A status, a body, and headers beside the usual ones; a content-type comes first, without one the body is JSON."""


class HttpError(Exception):
    """A refusal: its status, its code and message for the envelope, and when to come back, in s."""

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        message: str,
        *,
        retry_after: int | None = None,
        details: dict[str, int] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
        self.details, self.headers = details or {}, headers

    def response(self, trace_id: str) -> Response:
        """The envelope."""
        headers = self.headers
        if self.retry_after is not None:
            headers = (*headers, retry_after(self.retry_after))
        error = ErrorDetail(self.code, self.message, trace_id, **self.details)
        return self.status, _encode(ErrorResponse(error)), headers


class UnexpectedError(Exception):
    """Something failed that should not, with an event: for everybody in a batch at once, and told but once."""

    def __init__(self, event_id: str) -> None:
        super().__init__("something failed that should not")
        self.event_id = event_id
        self.told = False


class SlowBodies:
    """Ends the wait for bodies that do not come: the servers bound heads only.

    It has two generations and looks now and then: a timer for each body would cost a thirtieth of a join.
    """

    def __init__(self) -> None:
        self.reading: set[asyncio.Task[Any] | None] = set()
        # Asked for each time it costs a system call.
        self.loop: asyncio.AbstractEventLoop | None = None
        self._older: set[asyncio.Task[Any] | None] = set()

    async def run(self) -> None:
        """Looks until cancelled."""
        self.loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(BODY_SECONDS)
            for task in self._older:
                if task is not None:
                    task.cancel(self)
            self._older, self.reading = self.reading, set()

    def refusal(self, task: "asyncio.Task[Any] | None", error: asyncio.CancelledError) -> BaseException:
        """What ends that task: HttpError 408 if this ended the wait, else what was raised."""
        if task is None or error.args != (self,):
            return error
        task.uncancel()
        # As with a body that is too large, the connection cannot be used again.
        return HttpError(408, "BODY_TIMEOUT", f"the body did not come within {BODY_SECONDS} s", headers=_CLOSE)


class Request:
    """One HTTP request, read as far as a handler asks."""

    __slots__ = ("_receive", "_slow_bodies", "scope")

    def __init__(self, scope: Scope, receive: Receive, slow_bodies: SlowBodies) -> None:
        self.scope = scope
        self._receive, self._slow_bodies = receive, slow_bodies

    def headers(self) -> dict[bytes, bytes]:
        """The headers by their names in lower case."""
        return dict(self.scope["headers"])

    async def body(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The whole body, given the headers; raises HttpError 413 above MAX_BODY bytes, without reading on, and 408
        when it does not come.
        """
        declared = headers.get(b"content-length", b"")
        length = -1
        if declared.isdigit():
            length = int(declared[:9])
            if length > MAX_BODY:
                raise _too_large()
        body = b""
        task, reading = asyncio.current_task(self._slow_bodies.loop), self._slow_bodies.reading
        reading.add(task)
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    # It may have closed its own half only, and be listening: unanswered, granian would tell it 500.
                    raise invalid("the body ends too early")
                body += bytes(message.get("body", b""))
                if len(body) > MAX_BODY:
                    raise _too_large()
                # Another receive() to be told that there is no more costs granian two changes of threads.
                if len(body) == length or not message.get("more_body", False):
                    return body
        except asyncio.CancelledError as error:
            raise self._slow_bodies.refusal(task, error) from None
        finally:
            reading.discard(task)

    def token(self) -> str:
        """The query's token, '' if there is none."""
        query: bytes = self.scope["query_string"]
        if query.startswith(b"token=") and b"&" not in query and b"%" not in query:
            return query[6:].decode("latin-1")
        # Not ours to sign, whatever it decodes to: no need to be lenient.
        found = parse_qs(query.decode("latin-1"), max_num_fields=16) if query.count(b"&") < 16 else {}
        return found.get("token", [""])[0]

    def trace_id(self) -> str:
        """X-Request-ID if it is fit to be logged and sent back, else a new one."""
        given = self.headers().get(b"x-request-id", b"")
        return given.decode("ascii") if _TRACE_ID.fullmatch(given) else os.urandom(8).hex()


def json_response(status: int, value: Any, *headers: Header) -> Response:
    """An answer in JSON."""
    return status, _encode(value), headers


def retry_after(seconds: int) -> Header:
    """The Retry-After header."""
    return b"retry-after", b"%d" % seconds


def rfc3339(us: int) -> str:
    """A time in us as text, in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def decode(decoder: Callable[[bytes], BodyT], body: bytes) -> BodyT:
    """A typed body; raises HttpError 400 for anything else."""
    try:
        return decoder(body)
    except msgspec.MsgspecError as error:
        raise invalid(str(error)) from error
    except (RecursionError, UnicodeError) as error:
        raise invalid("the body is not JSON that we can read") from error


def is_text(raw: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def invalid(message: str) -> HttpError:
    """The refusal of a request that is not well formed."""
    return HttpError(400, "INVALID_REQUEST", message)


def _too_large() -> HttpError:
    # The rest of the body stays unread, so the connection cannot be used again.
    return HttpError(
        413,
        "PAYLOAD_TOO_LARGE",
        f"the body may have {MAX_BODY} bytes",
        headers=_CLOSE,
    )


def refusal(error: errors.DaegiError) -> HttpError:
    """What an error of ours is over HTTP."""
    message = str(error)
    match error:
        case errors.InvalidTokenError():
            return HttpError(400, "INVALID_TOKEN", message)
        case errors.EventNotFoundError():
            return HttpError(404, "EVENT_NOT_FOUND", message)
        case errors.KeyReusedError():
            return HttpError(422, "IDEMPOTENCY_KEY_REUSED", message)
        case errors.OverloadedError() | errors.TooManyEventsError():
            return HttpError(503, "OVERLOADED", message, retry_after=2)
        case _:
            return HttpError(503, "UNAVAILABLE", message, retry_after=2)
