"""What a handler is given: one HTTP request, whichever protocol the server speaks, read only as far as needed."""

import asyncio
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar
from urllib.parse import parse_qs

import msgspec

from api.http.errors import CLOSE, HttpError, invalid
from api.http.slow_bodies import SlowBodies
from api.http.unsent import Peer

MAX_BODY = 16 * 1024
"""Bytes that a request's body may have; more is refused with 413."""

_TRACE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MOST_PARAMETERS = 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})
BodyT = TypeVar("BodyT")


class EndsEarlyError(Exception):
    """The client closed the connection, or its half of it, in the middle of the body."""


def query_parameter(query: str, name: str) -> str:
    """A parameter's first value in a query, '' if there is none."""
    if query.count("&") >= _MOST_PARAMETERS:
        return ""
    return parse_qs(query, max_num_fields=_MOST_PARAMETERS).get(name, [""])[0]


class Request(ABC):
    """One HTTP request. `query` is as it was sent, `parameters` are those of the path."""

    __slots__ = ("_slow_bodies", "method", "parameters", "path", "query")

    ends_early: ClassVar[type[Exception]] = EndsEarlyError
    """The exception that is raised when a body is cut short."""

    def __init__(self, method: str, path: str, query: str, slow_bodies: SlowBodies) -> None:
        self.method, self.path, self.query = method, path, query
        self.parameters = _NO_PARAMETERS
        self._slow_bodies = slow_bodies

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """The address of the connected client or proxy, perhaps with a port; None on a Unix socket."""

    @property
    @abstractmethod
    def connection(self) -> Peer | None:
        """The client's end of the connection; None on a Unix socket."""

    @abstractmethod
    def header(self, name: str) -> str | None:
        """A header's last value (latin-1), by its name in lower case.

        Raises HttpError 400 if it is there and the server cannot read it.
        """

    @abstractmethod
    def header_values(self, name: str) -> list[str]:
        """Every value of a header that can be read, in the order in which they were sent."""

    @abstractmethod
    def _receive(self, length: int) -> Awaitable[bytes]:
        """The body, of `length` bytes (-1: unknown). Raises `ends_early`, and HttpError 413 as soon as the body has
        more than MAX_BODY bytes.
        """

    async def body(self) -> bytes:
        """The whole body. Raises HttpError 413 above MAX_BODY bytes, without reading on, 408 when it does not arrive
        in time, 400 when it ends too early.
        """
        declared = self.header("content-length")
        length = -1
        if declared is not None and declared.isdecimal():
            length = int(declared[:9])
            if length > MAX_BODY:
                raise too_large()
        slow_bodies = self._slow_bodies
        task, reading = slow_bodies.current_task(), slow_bodies.reading
        reading.add(task)
        try:
            return await self._receive(length)
        except asyncio.CancelledError as error:
            raise slow_bodies.refusal(task, error) from None
        except self.ends_early:
            # The client may have closed only its half and still be listening: without this, granian would answer 500.
            raise invalid("the body ends too early") from None
        finally:
            reading.discard(task)

    async def json(self, decode: Callable[[bytes], BodyT]) -> BodyT:
        """The body, decoded. Raises HttpError as body() does, 415 for a form or a compressed body, else 400."""
        body = await self.body()
        try:
            return decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            if not body.startswith(_BYTE_ORDER_MARK):
                raise self._unreadable(body, error) from error
        body = body[len(_BYTE_ORDER_MARK) :]
        try:
            return decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise self._unreadable(body, error) from error

    def query_parameter(self, name: str) -> str:
        """A parameter's first value in the query, '' if there is none."""
        return query_parameter(self.query, name)

    def bearer(self) -> str:
        """The credentials of `Authorization: Bearer ...`, '' if there are none."""
        values = self.header_values("authorization")
        scheme, _, credentials = values[-1].partition(" ") if values else ("", "", "")
        return credentials.strip() if scheme.lower() == "bearer" else ""

    def trace_id(self) -> str:
        """X-Request-ID if it is fit to be logged and sent back, else a new one."""
        given = self.header_values("x-request-id")
        return given[0] if given and _TRACE_ID.fullmatch(given[0]) else os.urandom(8).hex()

    def _unreadable(self, body: bytes, error: Exception) -> HttpError:
        """Says why the body could not be decoded.

        The headers are looked at only now, because JSON with another content type, as curl sends it, is accepted.
        """
        coding = self.header("content-encoding")
        if coding and coding.lower() != "identity":
            message = "the body is compressed: send it as it is, without Content-Encoding"
            return _unsupported(message, ("accept-encoding", "identity"))
        media = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if "form" in media and not body.lstrip().startswith((b"{", b"[")):
            message = 'the body is a form: send JSON, such as {"name": "value"}'
            return _unsupported(message, ("accept", "application/json"))
        if not body.strip():
            return invalid("the body is empty: send JSON")
        if isinstance(error, msgspec.ValidationError):
            return invalid(str(error))
        if isinstance(error, msgspec.DecodeError):
            return invalid(f"the body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}")
        return invalid("the body is not JSON that we can read")


def too_large() -> HttpError:
    """The refusal of a body above MAX_BODY."""
    return HttpError(413, "PAYLOAD_TOO_LARGE", f"the body may have {MAX_BODY} bytes", headers=CLOSE)


def unreadable_header(name: str) -> HttpError:
    """The refusal of a header that was sent but that the server does not pass on."""
    return invalid(f"the header {name} has characters that are not ASCII")


def _unsupported(message: str, header: tuple[str, str]) -> HttpError:
    return HttpError(415, "UNSUPPORTED_MEDIA_TYPE", message, headers=(header,))
