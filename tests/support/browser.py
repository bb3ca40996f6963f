"""A minimal HTTP client in place of a person's browser: thousands of requests a second from one core."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

    def header(self, name: str) -> str:
        """The first value of a header, '' without one."""
        return next((value for known, value in self.headers if known == name), "")

    @property
    def retry_after(self) -> float:
        """In s, 0 without one."""
        return float(self.header("retry-after") or 0)


class NoAnswerError(Exception):
    """There was no answer. Unless the connection was `refused`, the request may have been executed."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Client:
    """Sends requests to the ports in turn, skipping those where nobody listens. It never sends a request twice.

    A connection is reused within `keep` seconds.
    """

    def __init__(self, ports: Sequence[int], keep: float = 60) -> None:
        self._ports = deque(ports)
        self._keep = keep
        self._idle: dict[int, list[tuple[float, _Connection]]] = {port: [] for port in ports}

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
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in {"Host": "daegi", **(headers or {})}.items()]
        port, (reader, writer) = await self._connection()
        try:
            async with asyncio.timeout(TIMEOUT):
                writer.write("\r\n".join([*lines, "", ""]).encode() + content)
                page, keep = await _read(reader)
        except TimeoutError:
            writer.transport.abort()
            raise NoAnswerError(f"nothing within {TIMEOUT:.0f} s") from None
        except (OSError, EOFError) as error:
            writer.transport.abort()
            raise NoAnswerError(type(error).__name__) from error
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        if keep:
            self._idle[port].append((_now(), (reader, writer)))
        else:
            writer.transport.abort()
        return page

    def close(self) -> None:
        """Closes idle connections."""
        for connections in self._idle.values():
            for _, (_, writer) in connections:
                writer.transport.abort()
            connections.clear()

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
                async with asyncio.timeout(TIMEOUT):
                    return port, await asyncio.open_connection(LOCALHOST, port)
            except (OSError, TimeoutError):
                continue
        raise NoAnswerError("nobody listens", refused=True)


async def _read(reader: asyncio.StreamReader) -> tuple[Page, bool]:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    page = Page(int(first.split()[1]), [(name.lower(), value) for name, value in pairs], b"")
    page = page._replace(content=await reader.readexactly(int(page.header("content-length"))))
    return page, page.header("connection").lower() != "close"
