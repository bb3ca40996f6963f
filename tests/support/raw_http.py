"""HTTP written and read over sockets, byte by byte."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx

from shared.dev.redis_server import LOCALHOST
from tests.support.processes import Api


async def crowd(api: Api, requests: Sequence[bytes]) -> list[httpx.Response]:
    """The answers to raw requests that are sent at once, each over its own connection.

    httpx would take seconds for this: its pool looks through all connections for every request.
    """
    connections = await asyncio.gather(*(asyncio.open_connection(LOCALHOST, api.port) for _ in requests))
    for (_, writer), request in zip(connections, requests, strict=True):
        writer.write(request)
    return await asyncio.gather(*(read_answer(reader, writer) for reader, writer in connections))


async def read_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> httpx.Response:
    """One HTTP answer; then the connection is closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = httpx.Headers(
            [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:] if line)]
        )
        body = await reader.readexactly(int(headers["content-length"]))
        return httpx.Response(int(lines[0].split()[1]), headers=headers, content=body)
    finally:
        writer.close()


def post(path: str, body: Any, *headers: str) -> bytes:
    """A raw POST of a JSON body, or of bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1", "Host: daegi", f"Content-Length: {len(content)}", *headers, "", "")
    return "\r\n".join(head).encode("latin-1") + content
