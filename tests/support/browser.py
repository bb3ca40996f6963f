"""A minimal HTTP client in place of a person's browser: thousands of requests a second from one core."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from shared.dev.redis_server import LOCALHOST

TIMEOUT = 10.0
"""Seconds after which people give up waiting for an answer."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_now = time.monotonic


class Answer(NamedTuple):
    """An answer in JSON; `retry_after` in s, 0 without one."""

    status: int
    body: Any
    retry_after: float

    @property
    def code(self) -> str:
        """The code in an error's envelope, '' for any other answer."""
        return str(self.body.get("error", {}).get("code", "")) if self.status >= 400 else ""


class Page(NamedTuple):
    """An answer as it came; the names of headers are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes
    queued: float = 0.0
    """Seconds until one of the client's connections was free."""

    def header(self, name: str) -> str:
        """The first value of a header, '' without one."""
        return next((value for known, value in self.headers if known == name), "")

    @property
    def retry_after(self) -> float:
        """In s, 0 without one."""
        return float(self.header("retry-after") or 0)


class Event(NamedTuple):
    """A server-sent event; a comment has neither name nor data. `retry` in ms, 0 without one."""

    name: str
    data: bytes
    retry: int


class NoAnswerError(Exception):
    """There was no answer. Unless the connection was `refused`, the request may have been executed."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Client:
    """Sends requests to the ports in turn, skipping those where nobody listens. It never sends a request twice.

    A connection is reused within `keep` seconds. With `most`, no more requests than that are under way at the same
    time, and the others wait; streams are not counted. People give up after `timeout` seconds.
    """

    def __init__(
        self,
        ports: Sequence[int],
        keep: float = 60,
        *,
        most: int | None = None,
        timeout: float = TIMEOUT,
        host: str = LOCALHOST,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.queued = 0
        """Requests that wait for one of the `most` connections."""
        self._ports = deque(ports)
        self._keep, self._timeout = keep, timeout
        self._free = asyncio.Semaphore(most) if most else None
        self._host, self._tls = host, tls
        self._idle: dict[int, list[tuple[float, _Connection]]] = {port: [] for port in ports}

    @classmethod
    def to(cls, url: str, *, most: int | None = None, timeout: float = TIMEOUT) -> Self:
        """A client of one server; raises ValueError for what is no http or https URL."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no URL like http://127.0.0.1:8000")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return cls([port], most=most, timeout=timeout, host=parts.hostname, tls=tls)

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request with an answer in JSON; raises NoAnswerError."""
        content = b"" if body is None else msgspec.json.encode(body)
        page = await self.fetch(method, path, content, headers)
        return Answer(page.status, msgspec.json.decode(page.content), page.retry_after)

    async def fetch(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Page:
        """One request, whatever the answer is; raises NoAnswerError."""
        queued = await self._wait_for_turn()
        try:
            port, connection = await self._connection()
            page = await self._exchange(connection, _request(method, path, content, headers))
            if page.header("connection").lower() != "close":
                self._idle[port].append((_now(), connection))
            else:
                connection[1].transport.abort()
            return page._replace(queued=queued)
        finally:
            self._end_turn()

    async def abandon(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends a request and hangs up before the answer comes; raises NoAnswerError if nobody listens."""
        await self._wait_for_turn()
        try:
            _, (_, writer) = await self._connection()
            writer.write(_request(method, path, content, headers))
            writer.close()
        finally:
            self._end_turn()

    async def listen(self, path: str, headers: Mapping[str, str] | None = None) -> "Page | Stream":
        """A stream of events, which the caller closes, or the answer in place of one; raises NoAnswerError."""
        _, (reader, writer) = await self._connection()
        accept = {"Accept": "text/event-stream", **(headers or {})}
        page = await self._exchange((reader, writer), _request("GET", path, b"", accept))
        if _is_stream(page):
            return Stream(page, reader, writer)
        writer.transport.abort()
        return page

    def close(self) -> None:
        """Closes idle connections."""
        for connections in self._idle.values():
            for _, (_, writer) in connections:
                writer.transport.abort()
            connections.clear()

    async def _wait_for_turn(self) -> float:
        """Seconds that it took."""
        if self._free is None:
            return 0.0
        if not self._free.locked():
            await self._free.acquire()
            return 0.0
        asked = _now()
        self.queued += 1
        try:
            await self._free.acquire()
        finally:
            self.queued -= 1
        return _now() - asked

    def _end_turn(self) -> None:
        if self._free is not None:
            self._free.release()

    async def _exchange(self, connection: _Connection, request: bytes) -> Page:
        """The answer, or its head if it is a stream."""
        reader, writer = connection
        try:
            async with asyncio.timeout(self._timeout):
                writer.write(request)
                return await _read(reader)
        except TimeoutError:
            writer.transport.abort()
            raise NoAnswerError(f"nothing within {self._timeout:.0f} s") from None
        except (OSError, EOFError, ValueError) as error:
            writer.transport.abort()
            raise NoAnswerError(type(error).__name__) from error
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _connection(self) -> tuple[int, _Connection]:
        for _ in range(len(self._ports)):
            port = self._ports[0]
            self._ports.rotate(-1)
            idle = self._idle[port]
            while idle:
                used, (reader, writer) = idle.pop()
                if not (reader.at_eof() or writer.transport.is_closing() or _now() - used > self._keep):
                    return port, (reader, writer)
                writer.transport.abort()
            try:
                async with asyncio.timeout(self._timeout):
                    return port, await asyncio.open_connection(self._host, port, ssl=self._tls)
            except (OSError, TimeoutError):
                continue
        raise NoAnswerError("nobody listens", refused=True)


class Stream:
    """Server-sent events of one connection: `async for event in stream`. It ends with the connection."""

    def __init__(self, head: Page, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._chunked = _is_chunked(head)
        self._part = b""
        self._events: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            try:
                data = await (_read_chunk(self._reader) if self._chunked else self._reader.read(1 << 16))
            except (OSError, EOFError, ValueError):
                data = b""
            if not data:
                raise StopAsyncIteration
            *whole, self._part = (self._part + data).replace(b"\r\n", b"\n").split(b"\n\n")
            self._events.extend(map(_event, whole))
        return self._events.popleft()

    def close(self) -> None:
        """Hangs up."""
        self._writer.transport.abort()


def _request(method: str, path: str, content: bytes, headers: Mapping[str, str] | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in {"Host": "daegi", **(headers or {})}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _read(reader: asyncio.StreamReader) -> Page:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    page = Page(int(first.split()[1]), [(name.lower(), value) for name, value in pairs], b"")
    if length := page.header("content-length"):
        return page._replace(content=await reader.readexactly(int(length)))
    if _is_stream(page) or not _is_chunked(page):
        return page
    chunks = []
    while chunk := await _read_chunk(reader):
        chunks.append(chunk)
    return page._replace(content=b"".join(chunks))


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
    return (await reader.readexactly(size + 2))[:-2]


def _is_stream(head: Page) -> bool:
    return head.status == 200 and head.header("content-type").startswith("text/event-stream")


def _is_chunked(head: Page) -> bool:
    return head.header("transfer-encoding").lower() == "chunked"


def _event(text: bytes) -> Event:
    name, data, retry = "", [], 0
    for line in text.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode()
        elif field == b"data":
            data.append(value)
        elif field == b"retry":
            retry = int(value)
    return Event(name, b"\n".join(data), retry)
