"""The request parsers under any input, over real sockets: ``python -m tests.chaos.fuzz --inputs 100000``.

Half of the inputs are valid HTTP with any content, the other half violates HTTP somewhere. Every answer has to be one
of ours, in its usual shape, or the server's bare refusal of invalid HTTP. None may be a 5xx, and none may be missing.
"""

import argparse
import contextlib
import random
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from shared.dev.redis_server import LOCALHOST, RedisServer
from tests.support.odd_input import requests, torn
from tests.support.processes import Api

PATIENCE = 10.0
"""Seconds after which an answer counts as missing."""

_MOMENT = 0.05
"""Seconds within which a complete request is usually answered."""

_CHUNK = 1000
"""Inputs in one run of hypothesis, whose memory of what it has tried would grow too large."""

_SHAPES = [
    set(shape.split())
    for shape in (
        "waiting_token position_hint status poll_after_ms",
        "waiting_token position status poll_after_ms eta_sec eta_range_sec waiting_time ready_for_entry approximate",
        (
            "waiting_token position status poll_after_ms eta_sec eta_range_sec waiting_time ready_for_entry "
            "approximate state people reason"
        ),
        "admission reservation_token ttl_sec",
        "event_id user_id joined_at granted_at",
        "status",
        "status redis",
        "location",
        "events offset total",
        "event_id declared config totals waiting called absent tokens damaged index active openings",
    )
]
_IN_ERRORS = {"code", "message", "trace_id", "position", "poll_after_ms", "room"}


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Fuzzed(NamedTuple):
    """How many inputs there were, and how many answers of each status; 0 is a connection closed without one."""

    inputs: int
    answers: Counter[int]

    def __str__(self) -> str:
        found = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(self.answers.items()))
        return f"{self.inputs:,} inputs ({found})"


class Wire:
    """Sends inputs to an api process and reads what comes back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def ask(self, request: bytes) -> Answer:
        """The one answer to a well-formed request, on a connection that is kept."""
        for fresh in (self._socket is None, True):
            if self._socket is None:
                self._socket = self._connect()
            received = b""
            try:
                self._socket.sendall(request)
                while True:
                    part = self._socket.recv(1 << 16)
                    received += part
                    answers, rest = parse(received, bodiless=request.startswith(b"HEAD"))
                    if answers:
                        assert (len(answers), rest) == (1, b""), received
                        if answers[0].headers.get("connection") == "close":
                            self.close()
                        return answers[0]
                    if not part:
                        break
            except ConnectionError:
                pass
            self.close()
            # The server may close a kept connection just when the next request is sent.
            assert not fresh, f"no answer, only {received!r}"
            assert not received, f"no whole answer, only {received!r}"
        raise AssertionError("unreachable")

    def tear(self, data: bytes) -> list[Answer]:
        """All answers to arbitrary bytes, on a connection of their own."""
        received = b""
        with self._connect() as connection:
            try:
                connection.sendall(data)
                connection.settimeout(_MOMENT)
                with contextlib.suppress(TimeoutError):
                    received = connection.recv(1 << 16)
                # An incomplete request is ended now. Ended earlier, a server that still reads could drop an answer.
                connection.settimeout(PATIENCE)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    received += part
            except TimeoutError as error:
                raise AssertionError(f"no end within {PATIENCE} s, only {received!r}") from error
            except OSError:
                # The server closed it while we were still sending.
                pass
        answers, rest = parse(received)
        assert rest == b"", received
        return answers

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((LOCALHOST, self._port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def parse(received: bytes, *, bodiless: bool = False) -> tuple[list[Answer], bytes]:
    """The answers in these bytes, and the rest, an incomplete answer."""
    answers = []
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ")
        assert version in {"HTTP/1.1", "HTTP/1.0"}, received
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if bodiless or status.startswith("1") else int(headers.get("content-length", "0"))
        if len(rest) < length:
            break
        if not status.startswith("1"):
            answers.append(Answer(int(status), headers, rest[:length]))
        received = rest[length:]
    return answers, received


def check(answer: Answer, *, bare: bool) -> None:
    """Raises AssertionError unless the answer is one of ours or, if `bare`, the server's bare refusal."""
    assert HTTPStatus(answer.status) < HTTPStatus.INTERNAL_SERVER_ERROR, answer
    if bare and not answer.body:
        # The gate and the room have answers without a body, too.
        ours = answer.headers.get("cache-control") == "no-store"
        assert ours or answer.status >= HTTPStatus.BAD_REQUEST, answer
        return
    if not answer.body:
        assert answer.status != HTTPStatus.SEE_OTHER or answer.headers["location"].startswith("/"), answer
        return
    if answer.headers["content-type"].startswith("text/html"):
        assert answer.body.startswith(b"<!doctype html>"), answer
        assert "content-security-policy" in answer.headers, answer
        return
    assert answer.headers["content-type"] == "application/json", answer
    told = msgspec.json.decode(answer.body)
    if answer.status < HTTPStatus.BAD_REQUEST:
        assert set(told) in _SHAPES, answer
        return
    assert set(told) == {"error"}, answer
    assert {"code", "message", "trace_id"} <= set(told["error"]) <= _IN_ERRORS, answer
    assert b"Traceback" not in answer.body, answer


def fuzz(port: int, inputs: int, progress: Callable[[int], None], first_seed: int) -> Fuzzed:
    """Sends `inputs` inputs to the api on this port; raises AssertionError, with the input, for a wrong answer."""
    counts: Counter[int] = Counter()
    wire = Wire(port)
    done = 0

    def send(request: bytes, *, whole: bool) -> None:
        answers = [wire.ask(request)] if whole else wire.tear(request)
        for answer in answers:
            check(answer, bare=not whole)
        counts.update([answer.status for answer in answers] or [0])

    for number, size in enumerate(_sizes(inputs)):
        for part, strategy, whole in ((size // 2, torn, False), (size - size // 2, requests, True)):
            if part:
                _run(strategy, part, first_seed + number, partial(send, whole=whole))
        done += size
        progress(done)
    wire.close()
    return Fuzzed(inputs, counts)


def _sizes(inputs: int) -> Iterator[int]:
    while inputs > 0:
        yield min(_CHUNK, inputs)
        inputs -= _CHUNK


def _run(strategy: st.SearchStrategy[bytes], inputs: int, number: int, send: Callable[[bytes], None]) -> None:
    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(request: bytes) -> None:
        send(request)

    one()


def run(inputs: int, progress: Callable[[int], None], first_seed: int = 0) -> Fuzzed:
    """Fuzzes an api process of its own; raises AssertionError for a wrong answer, or if the process was harmed."""
    settings_of_api = {"trusted_user_header": "X-User-Id", "trusted_address_header": "X-Forwarded-For"}
    with RedisServer() as redis, Api(redis.url, **settings_of_api, max_events=1_000_000) as api:
        family = {process.pid for process in api.family()}
        fuzzed = fuzz(api.port, inputs, progress, first_seed)
        assert {process.pid for process in api.family()} == family, api.log()
        for unexpected in ("Traceback", "panicked", "a request failed"):
            assert unexpected not in api.log(), api.log()
    return fuzzed


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzzes, and shows the progress."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, help="as printed by a run that is to be repeated")
    given_arguments = parser.parse_args(argv)
    first_seed = random.SystemRandom().randrange(10**6) if given_arguments.seed is None else given_arguments.seed
    inputs: int = given_arguments.inputs
    print(f"seed {first_seed}", file=sys.stderr)

    def progress(done: int) -> None:
        print(f"\r{done:,} of {inputs:,}", end="", file=sys.stderr, flush=True)

    fuzzed = run(inputs, progress, first_seed)
    print(file=sys.stderr)
    print(fuzzed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
