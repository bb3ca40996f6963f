"""A simulated crowd: people who stand in line, and newcomers behind them."""

import asyncio
import contextlib

import httpx


class Crowd:
    """People in front of a visitor, and some who come later. They wait, go in when it is their turn, and are gone."""

    def __init__(self, api_url: str, event: str) -> None:
        limits = httpx.Limits(max_connections=50)
        self._http = httpx.AsyncClient(base_url=api_url, trust_env=False, timeout=10, limits=limits)
        self._event = event
        self._people: set[asyncio.Task[None]] = set()

    async def join(self, count: int) -> None:
        """So many come, one after the other."""
        for _ in range(count):
            answer = await self._http.post("/api/v1/queue/join", json={"event_id": self._event})
            answer.raise_for_status()
            task = asyncio.create_task(self._wait(answer.json()["waiting_token"]))
            self._people.add(task)
            task.add_done_callback(self._people.discard)

    async def keep_coming(self, per_second: float) -> None:
        """Newcomers, until cancelled."""
        while True:
            await asyncio.sleep(1 / per_second)
            # The operator may have paused something, or Redis may be away: they come again.
            with contextlib.suppress(httpx.HTTPError):
                await self.join(1)

    async def leave(self) -> None:
        """All of them go home."""
        for task in self._people:
            task.cancel()
        await asyncio.gather(*self._people, return_exceptions=True)
        await self._http.aclose()

    async def _wait(self, token: str) -> None:
        pause = 1.0
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._http.get("/api/v1/queue/status", headers={"Authorization": f"Bearer {token}"})
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return
                if not answer.is_success:
                    continue
                said = answer.json()
                token, pause = said["waiting_token"], said["poll_after_ms"] / 1000
                if said["ready_for_entry"]:
                    entered = await self._http.post("/api/v1/queue/enter", json={"waiting_token": token})
                    if entered.is_success:
                        return
