"""The load generator of the benchmark tells the truth about a server that stalls, refuses and hangs up."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.load.generator import Generator
from tests.load.openloop import joins
from tests.load.outcome import Outcome, Plan
from tests.load.rig import RigError

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
BARE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
HANG_UP = b""

Answers = Callable[[bytes], bytes]


@contextlib.contextmanager
def serving(answers: Answers) -> Iterator[int]:
    """A server with a thread for each connection; yields its port."""

    def talk(link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            while request := link.recv(4096):
                reply = answers(request)
                if not reply:
                    return
                link.sendall(reply)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def offered(port: int, rate: float, connections: int = 4, timeout: float = 10.0, seconds: float = 1.0) -> Outcome:
    plan = Plan("127.0.0.1", port, rate, seconds, connections, timeout)
    outcome = Generator(plan, joins("event", "seed")).run()
    answered = outcome.accepted.count + outcome.refused.count
    assert outcome.due == outcome.written + outcome.given_up + outcome.unsent
    assert outcome.written == answered + outcome.timed_out + outcome.broken + outcome.unanswered
    assert answered == sum(outcome.statuses.values())
    return outcome


def test_who_comes_while_the_server_stalls_is_counted_as_having_waited() -> None:
    stalled = threading.Event()
    lock = threading.Lock()

    def answers(_: bytes) -> bytes:
        with lock:
            if not stalled.is_set():
                stalled.set()
                time.sleep(0.5)
        return ACCEPTED

    with serving(answers) as port:
        outcome = offered(port, rate=200)

    # All four connections hang for 0.5 s. Only their four requests waited since they were written, but some
    # hundred came meanwhile: more than a tenth of all.
    assert outcome.accepted.since_written.max >= 400
    assert outcome.accepted.since_due.p95 > outcome.accepted.since_written.p95
    assert outcome.accepted.since_due.p95 >= 250


def test_nobody_joins_twice() -> None:
    seen: list[bytes] = []

    def answers(request: bytes) -> bytes:
        seen.append(request.partition(b"\r\n\r\n")[2])
        return ACCEPTED

    with serving(answers) as port:
        outcome = offered(port, rate=300, seconds=0.5)

    assert len(set(seen)) == len(seen) == outcome.accepted.count > 0


def test_refusals_are_counted_and_those_without_retry_after_as_such() -> None:
    turns = iter([REFUSED, BARE, ACCEPTED] * 1000)

    with serving(lambda _: next(turns)) as port:
        outcome = offered(port, rate=100, connections=1)

    assert outcome.statuses[503] == outcome.refused.count > 0
    assert 0 < outcome.bare_503 < outcome.refused.count


def test_a_lost_connection_is_counted_and_replaced() -> None:
    turns = iter([ACCEPTED, HANG_UP] * 1000)

    with serving(lambda _: next(turns)) as port:
        outcome = offered(port, rate=100, connections=2)

    assert outcome.broken > 2
    assert outcome.accepted.count > 2


def test_who_is_never_answered_times_out_and_the_rest_give_up() -> None:
    for_ever = threading.Event()

    def answers(_: bytes) -> bytes:
        for_ever.wait(10)
        return HANG_UP

    with serving(answers) as port:
        outcome = offered(port, rate=100, connections=1, timeout=0.3)
        for_ever.set()

    assert not outcome.accepted.count
    assert outcome.timed_out
    assert outcome.given_up
    assert any("had no answer" in doubt for doubt in outcome.doubts())


def test_an_absent_server_is_an_error_not_a_figure() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(RigError, match="0 of 4 connections"):
            offered(nobody.getsockname()[1], rate=100)


@pytest.mark.parametrize(("rate", "seconds", "connections"), [(1e6, 60, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_a_run_is_bounded(rate: float, seconds: float, connections: int) -> None:
    with pytest.raises(ValueError, match=r"connections|requests"):
        Plan("127.0.0.1", 1, rate, seconds, connections)
