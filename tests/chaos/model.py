"""Long runs of the model of the line (tests/line/model), on a Redis of their own: ``python -m tests.chaos.model``.

Every sequence of steps is random, and differs in each run. A failure is reported as a short sequence that shows it.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import structlog

from shared.dev.redis_server import RedisServer
from tests.line.model.run import run_machine

_CHUNK = 200
"""Sequences in one run of hypothesis, whose memory of what it has tried would grow too large."""


def run(examples: int, progress: Callable[[int], None]) -> None:
    """Runs `examples` sequences; reports to `progress` how many are done. Raises the first failure."""
    earlier = 0

    def add(done: int) -> None:
        progress(earlier + done)

    with RedisServer() as server:
        for earlier in range(0, examples, _CHUNK):
            run_machine(server.url, min(_CHUNK, examples - earlier), add)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if the line did what the model does not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=1000, help="how many sequences (default: %(default)s)")
    examples: int = parser.parse_args(argv).examples
    # Repairs log what they do, and there are thousands of them here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def show(done: int) -> None:
        sys.stderr.write(f"\r{min(done, examples):,} of {examples:,} sequences")

    run(examples, show)
    sys.stderr.write("\n")
    print(f"{examples:,} sequences of steps did what the model does")
    return 0


if __name__ == "__main__":
    sys.exit(main())
