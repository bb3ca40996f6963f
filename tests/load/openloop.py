"""Sends requests at a fixed rate, however slowly they are answered, and reports how long they really took.

    python -m tests.load.openloop http://127.0.0.1:8001 --rate 5000 --seconds 10 --connections 512 --event NAME

prints one line of JSON (Outcome). Requests come as from independent people, with exponential gaps. A latency counts
from the moment a request was due: a server that stalls is charged for everybody who came meanwhile (no coordinated
omission). The latency since the moment it was written leaves out the time for which no connection was free. Without
--rate it is a closed loop: each connection sends again as soon as it is answered.
"""

import argparse
import dataclasses
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from shared.dev.redis_server import LOCALHOST
from tests.load.generator import Generator, Requests
from tests.load.outcome import Outcome, Plan
from tests.load.rig import LOAD_CORE, RigError, pinned
from tests.support.paths import ROOT


def joins(event: str, seed: str) -> Requests:
    """Joins of one event, each by another person."""
    body = b'{"event_id":"%b","user_id":"%b-%%08d"}' % (event.encode(), seed.encode())
    head = (
        b"POST /api/v1/queue/join HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        b"Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    template = head.replace(b"%d", b"%d" % len(body % 0)) + body
    return lambda number: template % number


def polls(tokens: Sequence[str]) -> Requests:
    """Polls of these tokens in turn."""
    requests = [
        b"GET /api/v1/queue/status?token=%b HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
        % token.encode()
        for token in tokens
    ]
    return lambda number: requests[number % len(requests)]


def offer(
    port: int,
    *,
    rate: float,
    seconds: float,
    connections: int,
    event: str = "open",
    seed: str = "open",
    tokens: Path | None = None,
) -> Outcome:
    """Runs the open loop in its own process on the load's core; it polls if there is a file of tokens, else joins."""
    command = [sys.executable, "-m", "tests.load.openloop", f"http://{LOCALHOST}:{port}", "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--connections", str(connections), "--event", event, "--seed", seed]
    command += ["--tokens", str(tokens)] if tokens else []
    run = subprocess.run(pinned(LOAD_CORE, command), cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RigError(f"the open loop failed: {run.stderr[-1000:]}")
    return msgspec.json.decode(run.stdout, type=Outcome)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 130 after Ctrl-C, with the figures up to then."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.openloop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="http://HOST:PORT")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second (default: a closed loop)")
    parser.add_argument("--seconds", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--connections", type=int, default=512, help="(%(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds (%(default)s)")
    parser.add_argument("--event", default="open", help="who joins, joins this event (%(default)s)")
    parser.add_argument("--seed", default="open", help="makes users, and gaps, other than another run's (%(default)s)")
    parser.add_argument("--tokens", type=Path, help="file of waiting tokens: poll them instead")
    given = parser.parse_args(argv)
    url = urlsplit(given.url)
    try:
        plan = Plan(
            host=socket.gethostbyname(url.hostname or LOCALHOST),
            port=url.port or 80,
            rate=given.rate,
            seconds=given.seconds,
            connections=given.connections,
            timeout=given.timeout,
            seed=sum(given.seed.encode()),
        )
        requests = polls(given.tokens.read_text().split()) if given.tokens else joins(given.event, given.seed)
        generator = Generator(plan, requests)
        signal.signal(signal.SIGINT, lambda *_: setattr(generator, "stop", True))
        outcome = generator.run()
    except (RigError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(dataclasses.asdict(outcome)))
    for doubt in outcome.doubts():
        print(f"! {doubt}", file=sys.stderr)
    return 130 if outcome.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
