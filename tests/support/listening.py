"""People who listen for their place: streams of Server-Sent Events, read as a browser reads them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

STREAM = "/api/v1/queue/stream"


class Told(NamedTuple):
    """An event; `retry` in ms, None if it says none."""

    name: str
    data: Any
    retry: int | None


class Stream:
    """The events of an answer."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.comments: list[str] = []
        self._lines = answer.aiter_lines()

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Told:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                retry = int(fields["retry"]) if "retry" in fields else None
                return Told(fields["event"], json.loads(fields["data"]), retry)
        assert not fields, "the stream ended within an event"
        raise StopAsyncIteration

    async def next(self) -> Told:
        """The next event; there has to be one."""
        return await anext(self)

    async def until(self, **wanted: Any) -> Any:
        """The data of the first place that has these values."""
        async for told in self:
            assert told.name == "place", told
            if wanted.items() <= told.data.items():
                return told.data
        raise AssertionError(f"the stream ended before {wanted}")

    async def rest(self) -> list[Told]:
        """Everything up to the end of the stream."""
        return [told async for told in self]


@asynccontextmanager
async def listening(
    http: httpx.AsyncClient, token: str = "", *, path: str = STREAM, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """A stream that must be opened."""
    query = {"token": token} if token else None
    async with http.stream("GET", path, params=query, headers=headers, timeout=30) as answer:
        if answer.status_code != 200:
            await answer.aread()
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream"
        yield Stream(answer)


async def listeners(http: httpx.AsyncClient) -> int:
    """How many streams the process has, as /metrics tells."""
    for line in (await http.get("/metrics")).text.splitlines():
        if line.startswith("daegi_listeners "):
            return int(float(line.split()[1]))
    raise AssertionError("there is no such metric")
