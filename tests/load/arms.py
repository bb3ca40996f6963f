"""The applications that are compared: a no-op, the two ways of the original, and Daegi.

`python -m tests.load.arms NAME --server granian --port 8001 --redis redis://127.0.0.1:6379/0` serves one of them.
The original's are written as a careful engineer would write them today (a shared pool of connections, msgspec, hiredis,
uvloop, no logging), so that a comparison shows the design and not the neglect of the other side.
"""

import argparse
import importlib
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# The fastest of 32, 64, 100 and 128 for both ways, at 128 joins at once.
CONNECTIONS: Final = 128
ACCEPTED: Final = 202
CONFLICT: Final = 409
# As long as Daegi's answer to a join.
NOTHING: Final = (
    b'{"waiting_token":"w~bench~1764000000000000~AAAAAAAAAAAAAAAAAAAAAA",'
    b'"position_hint":12345,"status":"waiting","poll_after_ms":2000}'
)
# Step 1 of the original: a repeated key is refused, anyone else is written into the log.
ENQUEUE: Final = """
if KEYS[2] and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', 300) then
  return 0
end
redis.call('XADD', KEYS[1], '*', 'token', ARGV[1], 'user_id', ARGV[2])
return 1
"""


class Join(msgspec.Struct):
    """The body of a join."""

    event_id: str
    user_id: str = ""


class Joined(msgspec.Struct):
    """The answer to a join."""

    waiting_token: str
    position_hint: int
    status: str
    poll_after_ms: int = 2000


class QueueData(msgspec.Struct):
    """What the original stored for every waiting person."""

    waiting_token: str
    event_id: str
    user_id: str
    status: str
    position: int
    joined_at: float


_encode = msgspec.json.Encoder().encode
_decode_join = msgspec.json.Decoder(Join).decode


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, with no more calls of receive() than it needs: each costs granian a change of threads."""
    declared = next((int(value) for name, value in scope["headers"] if name == b"content-length"), -1)
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body") and len(body) != declared:
        message = await receive()
        body += message["body"]
    return body


async def answer(send: Send, status: int, body: bytes) -> None:
    """Sends a JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Noop:
    """Answers every request at once, to show what the server alone can do."""

    def __init__(self, *, reads_body: bool) -> None:
        self._reads_body = reads_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if self._reads_body:
            await read_body(scope, receive)
        await answer(send, ACCEPTED, NOTHING)


class Original:
    """The original's join: the Lua enqueue, then either six more calls in turn or one pipeline of six."""

    def __init__(self, *, pipelined: bool) -> None:
        self._write = self._write_pipelined if pipelined else self._write_in_turn
        self._redis: Redis
        self._sha = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self._open, self._close)
            return
        join = _decode_join(await read_body(scope, receive))
        key = next((value.decode() for name, value in scope["headers"] if name == b"idempotency-key"), None)
        token = str(uuid.uuid4())
        if not await self._enqueue(join, token, key):
            await answer(send, CONFLICT, b'{"error":"DUPLICATE"}')
            return
        position = await self._write(join, token)
        await answer(send, ACCEPTED, _encode(Joined(token, position, "waiting")))

    async def _open(self) -> None:
        pool = BlockingConnectionPool.from_url(os.environ["BENCH_REDIS_URL"], max_connections=CONNECTIONS, timeout=20)
        self._redis = Redis(connection_pool=pool)
        self._sha = await self._redis.script_load(ENQUEUE)

    async def _close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _enqueue(self, join: Join, token: str, key: str | None) -> int:
        keys = [f"stream:event:{{{join.event_id}}}"]
        if key is not None:
            keys.append(f"dedupe:{{{join.event_id}}}:{key}")
        done: int = await self._redis.evalsha(self._sha, len(keys), *keys, token, join.user_id)  # type: ignore[misc] # redis-py
        return done

    async def _write_in_turn(self, join: Join, token: str) -> int:
        """Calls 2 to 7; the two reads of the position share a round trip."""
        redis, event, now = self._redis, join.event_id, time.time()
        pipe = redis.pipeline(transaction=False)
        pipe.xlen(f"stream:event:{{{event}}}")
        pipe.get(f"position:last:{{{event}}}")
        length, last = await pipe.execute()
        position = max(length - int(last or 0), 0)
        data = _encode(QueueData(token, event, join.user_id, "waiting", position, now))
        await redis.set(f"queue:data:{{{event}}}:{token}", data, ex=1800)
        await redis.zadd(f"queue:event:{{{event}}}", {token: now})
        await redis.expire(f"queue:event:{{{event}}}", 3600)
        await redis.set(f"heartbeat:{{{event}}}:{token}", "alive", ex=300)
        await redis.zadd(f"position_index:{{{event}}}", {token: now})
        return position

    async def _write_pipelined(self, join: Join, token: str) -> int:
        """The optimised way: six writes share a round trip, and the position is left to a worker."""
        event, now = join.event_id, time.time()
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(
            f"queue:data:{{{event}}}:{token}",
            _encode(QueueData(token, event, join.user_id, "waiting", 0, now)),
            ex=1800,
        )
        pipe.zadd(f"queue:event:{{{event}}}", {token: now})
        pipe.expire(f"queue:event:{{{event}}}", 3600)
        pipe.set(f"heartbeat:{{{event}}}:{token}", "alive", ex=300)
        pipe.zadd(f"position_index:{{{event}}}", {token: now})
        pipe.expire(f"position_index:{{{event}}}", 3600)
        await pipe.execute()
        return 0


async def _nothing() -> None:
    pass


async def _lifespan(
    receive: Receive,
    send: Send,
    start: Callable[[], Awaitable[None]] = _nothing,
    stop: Callable[[], Awaitable[None]] = _nothing,
) -> None:
    await receive()
    await start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await stop()
    await send({"type": "lifespan.shutdown.complete"})


noop = Noop(reads_body=False)
noop_body = Noop(reads_body=True)
seven = Original(pipelined=False)
pipelined = Original(pipelined=True)
NAMES: Final = ("noop", "noop_body", "seven", "pipelined", "daegi")


def serve(name: str, server: str, port: int) -> None:
    """Serves one of them in one process, with the settings that measured best here."""
    is_daegi = name == "daegi"
    target = "api.app:create_app" if is_daegi else f"tests.load.arms:{name}"
    # Imported here, so that each server is needed only by those who use it.
    if server == "uvicorn":
        uvicorn = importlib.import_module("uvicorn")
        uvicorn.run(
            target,
            factory=is_daegi,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="none",
            access_log=False,
            log_level="error",
        )
        return
    if is_daegi:
        # As in the Procfile, except that the user header would make it use ASGI. The settings below are for the others.
        os.environ["DAEGI_PORT"] = str(port)
        os.execv(sys.executable, [sys.executable, "-m", "api", "--interface", "rsgi"])
    granian = importlib.import_module("granian")
    constants = importlib.import_module("granian.constants")
    granian.Granian(
        target,
        port=port,
        interface=constants.Interfaces.ASGI,
        loop=constants.Loops.uvloop,
        runtime_mode=constants.RuntimeModes.mt,
        http=constants.HTTPModes.http1,
        websockets=False,
        backlog=4096,
        # Granian counts connections here, not requests: by default it would serve 1,024 clients and let the rest wait.
        backpressure=65_536,
        log_enabled=False,
    ).serve()


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.arms", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--server", choices=("granian", "uvicorn"), default="granian")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0", help="URL (%(default)s)")
    options = parser.parse_args(argv)
    os.environ["BENCH_REDIS_URL"] = os.environ["DAEGI_REDIS_URL"] = options.redis
    serve(options.name, options.server, options.port)


if __name__ == "__main__":
    main()
