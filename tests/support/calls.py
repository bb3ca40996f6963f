"""What people and operators do over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.processes import Api
from tests.support.settings import OPERATOR


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client with room for a crowd."""
    limits = httpx.Limits(max_connections=600, max_keepalive_connections=600)
    # Nothing here speaks TLS, and reading certificates takes longer than most tests.
    settings = {"limits": limits, "timeout": 30, "trust_env": False, "verify": False, **options}
    async with httpx.AsyncClient(base_url=url, **settings) as opened:
        yield opened


@asynccontextmanager
async def running(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Starts a process and yields a client of it. The loop keeps running, for a relay in front of its Redis."""
    try:
        await asyncio.to_thread(api.__enter__)
        async with client(api.url) as http:
            yield http
    finally:
        await asyncio.to_thread(api.__exit__)


async def join(
    http: httpx.AsyncClient, event: str, *, key: str | None = None, user: str | None = None, label: str | None = None
) -> Any:
    """A join that must succeed; `user` is the verified user, `label` the one in the body."""
    answer = await try_join(http, event, key=key, user=user, label=label)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def try_join(
    http: httpx.AsyncClient, event: str, *, key: str | None = None, user: str | None = None, label: str | None = None
) -> httpx.Response:
    """A join."""
    headers = {"Idempotency-Key": key, "X-User-Id": user}
    body = {"event_id": event} if label is None else {"event_id": event, "user_id": label}
    given = {name: value for name, value in headers.items() if value is not None}
    return await http.post("/api/v1/queue/join", json=body, headers=given)


async def status(http: httpx.AsyncClient, token: str) -> Any:
    """A poll that must succeed."""
    answer = await try_status(http, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_status(http: httpx.AsyncClient, token: str) -> httpx.Response:
    """A poll."""
    return await http.get("/api/v1/queue/status", params={"token": token})


async def enter(http: httpx.AsyncClient, token: str) -> Any:
    """An enter that must succeed."""
    answer = await try_enter(http, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_enter(http: httpx.AsyncClient, token: str) -> httpx.Response:
    """An enter."""
    return await http.post("/api/v1/queue/enter", json={"waiting_token": token})


async def redeem(http: httpx.AsyncClient, reservation: str) -> Any:
    """A redeem that must succeed."""
    answer = await try_redeem(http, reservation)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def try_redeem(http: httpx.AsyncClient, reservation: str) -> httpx.Response:
    """A redeem."""
    return await http.post("/api/v1/queue/redeem", json={"reservation_token": reservation})


async def leave(http: httpx.AsyncClient, token: str, method: str = "DELETE") -> httpx.Response:
    """A leave."""
    return await http.request(method, "/api/v1/queue/leave", params={"token": token})


async def configure(http: httpx.AsyncClient, event: str, **changes: Any) -> Any:
    """An operator's change that must succeed."""
    answer = await http.put(f"/api/v1/admin/events/{event}", json=changes, headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return answer.json()
