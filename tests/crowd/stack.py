"""What a crowd stands in front of: a stack of its own, or a Daegi that runs."""

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Self
from urllib.parse import urlsplit

from shared.dev.redis_server import RedisServer
from tests.crowd.options import Options
from tests.crowd.person import TIMEOUT
from tests.support.browser import Answer, Client, NoAnswerError
from tests.support.processes import Api, Worker
from tests.support.settings import ADMIN_KEY

HOST: Final = "tickets.example"


class StackError(Exception):
    """There is nothing to stand in front of; the message says why."""


class Stack:
    """Redis, api processes and a worker. `start` and `close` block; nothing outlives the process."""

    def __init__(self, options: Options) -> None:
        self.ports: list[int] = []
        self._options = options
        self._redis = RedisServer()
        self._started = ExitStack()

    def start(self) -> Self:
        """Returns when all of it answers; raises RedisServerError or AssertionError."""
        settings: dict[str, Any] = {"heartbeat_ttl": self._options.heartbeat_ttl, "ready_ttl": self._options.ready_ttl}
        try:
            self._started.enter_context(self._redis.start(None, None, appendonly=self._options.outage is not None))
            self._started.enter_context(Worker(self._redis.url, **settings))
            for _ in range(self._options.apis):
                self.ports.append(self._started.enter_context(Api(self._redis.url, **settings)).port)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Ends all of it."""
        self._started.close()

    def kill_redis(self) -> None:
        """As a crash would end it."""
        self._redis.kill()

    def restart_redis(self) -> None:
        """It comes back with what it had written."""
        self._redis.restart()


class Site:
    """How the crowd reaches it, and what an operator may do there."""

    def __init__(self, client: Client, host: str, scheme: str, event: str, admin_key: str | None) -> None:
        self.client, self.host, self.scheme, self.event = client, host, scheme, event
        self.is_ours = admin_key is not None
        """Whether the event's settings are ours to set."""
        self._headers = {"Host": host, "Authorization": f"Bearer {admin_key}"}

    @classmethod
    def of(cls, options: Options, stack: Stack | None) -> Self:
        """The stack, or what the URL leads to."""
        event = options.event or f"crowd-{secrets.token_hex(3)}"
        if stack is not None:
            client = Client(stack.ports, most=options.connections, timeout=TIMEOUT)
            return cls(client, HOST, "http", event, ADMIN_KEY)
        assert options.url is not None
        parts = urlsplit(options.url)
        client = Client.to(options.url, most=options.connections, timeout=TIMEOUT)
        return cls(client, parts.netloc, parts.scheme, event, options.admin_key)

    async def declare(self, options: Options) -> None:
        """Gives the event its settings. Raises StackError."""
        settings = {
            "rate": options.rate,
            "burst": 4 * options.rate if options.burst is None else options.burst,
            "paused": options.doors > 0,
            "max_active": options.max_active,
            "session_ttl": options.session_ttl,
        }
        answer = await self._admin("PUT", settings)
        if answer is None or answer.status != 200:
            raise StackError(f"the event cannot be declared: {answer.status if answer else 'no answer'}")

    async def open_doors(self) -> None:
        """Ends the pause. Raises StackError."""
        answer = await self._admin("PUT", {"paused": False})
        if answer is None or answer.status != 200:
            raise StackError(f"the doors cannot be opened: {answer.status if answer else 'no answer'}")

    async def describe(self) -> Mapping[str, Any] | None:
        """What an operator sees; None if there is no answer."""
        answer = await self._admin("GET") if self.is_ours else None
        return answer.body if answer is not None and answer.status == 200 else None

    async def has_room(self) -> bool:
        """Whether the event's waiting room is there."""
        try:
            page = await self.client.fetch("GET", f"/waiting-room/{self.event}", headers={"Host": self.host})
        except NoAnswerError:
            return False
        return page.status in {200, 303}

    async def has_gate(self) -> bool:
        """Whether the gate can be asked here, as a proxy asks it."""
        path = f"/api/v1/gate/{self.event}/forwarded/authorize"
        headers = {"Host": self.host, "X-Forwarded-Uri": "/", "Accept": "application/json"}
        try:
            page = await self.client.fetch("GET", path, headers=headers)
        except NoAnswerError:
            return False
        return page.status in {200, 429}

    async def _admin(self, method: str, body: object = None) -> Answer | None:
        try:
            return await self.client.ask(method, f"/api/v1/admin/events/{self.event}", body, self._headers)
        except (NoAnswerError, ValueError):
            return None
