"""What a handler answers with."""

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, Self

import msgspec

Header = tuple[str, str]
"""A name in lower case and a value, both ASCII."""

JSON: Final[tuple[Header, ...]] = (("content-type", "application/json"), ("cache-control", "no-store"))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


class Response(msgspec.Struct, frozen=True, gc=False):
    """A complete answer. Its length needs no header: the adapters know it."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = JSON

    def adding(self, headers: tuple[Header, ...]) -> Self:
        """The same answer with more headers."""
        return type(self)(self.status, self.body, (*self.headers, *headers))


class Chunks(Protocol):
    """What is sent piece by piece, such as an asynchronous generator."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    def __anext__(self) -> Awaitable[bytes]:
        """The next piece; raises StopAsyncIteration at the end."""

    def aclose(self) -> Awaitable[None]:
        """Nothing more is asked for."""


class StreamingResponse(msgspec.Struct, frozen=True):
    """An answer that is sent piece by piece as `chunks` yields it, until `chunks` ends or the client is gone.

    Either way `chunks` is closed: a generator can clean up in its `finally`.
    """

    status: int
    chunks: Chunks
    headers: tuple[Header, ...]

    def adding(self, headers: tuple[Header, ...]) -> Self:
        """The same answer with more headers."""
        return type(self)(self.status, self.chunks, (*self.headers, *headers))


AnyResponse = Response | StreamingResponse


def json_response(status: int, value: Any, *headers: Header) -> Response:
    """An answer in JSON."""
    return Response(status, _encode(value), (*JSON, *headers) if headers else JSON)


def retry_after(seconds: int) -> Header:
    """The Retry-After header, in s."""
    return "retry-after", str(seconds)


def rfc3339(us: int) -> str:
    """A time in us as text, in UTC."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
