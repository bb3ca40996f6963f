"""A crowd before the waiting room (`make crowd`); `python -m tests.crowd --help` tells what it can be like."""

import asyncio
import gc
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing

import uvloop

from shared.dev.redis_server import RedisServerError
from tests.crowd.judge import judge
from tests.crowd.ledger import Ledger
from tests.crowd.options import Options, parse
from tests.crowd.page import page
from tests.crowd.report import report, text
from tests.crowd.run import Run
from tests.crowd.stack import Site, Stack, StackError
from tests.crowd.view import view
from tests.load.generator import allow_files
from tests.load.rig import RigError
from tests.support.threads import in_thread

_FILES: int = 256
"""Open files beside connections."""


def main(argv: Sequence[str] | None = None) -> int:
    """Plays it; 1 if somebody was lost, let in twice or overtaken, 2 if it cannot be played, 130 after Ctrl-C."""
    options = parse(argv)
    ledger = Ledger()
    cpu = time.process_time()
    try:
        allow_files(options.connections + round(options.people * options.listen) + _FILES)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_play(options, ledger))
    except (StackError, RedisServerError, RigError) as error:
        print(error, file=sys.stderr)
        return 2
    if not ledger.stories:
        print("stopped before anybody came", file=sys.stderr)
        return 130
    verdict = judge(ledger, rate=options.rate, returns_after=options.ready_ttl / 2)
    figures = report(options, ledger, verdict, time.process_time() - cpu)
    print(f"\n{text(figures)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1))
        print(options.json)
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(page(figures, ledger, verdict))
        print(options.html)
    if ledger.interrupted:
        return 130
    return 0 if verdict.is_kept else 1


async def _play(options: Options, ledger: Ledger) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, over.set)
    stack = Stack(options) if options.url is None else None
    try:
        if stack is not None:
            print("Starting Redis, api and worker ...", flush=True)
            await in_thread(stack.start)
        if over.is_set():
            return
        # Thousands of people are objects that live long: looking through them again and again would stop the loop.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        site, seen = Site.of(options, stack), view(options.people)
        with closing(site.client), seen.showing():
            await Run(options, site, stack=stack, ledger=ledger, view=seen, over=over).play()
    finally:
        if stack is not None:
            await in_thread(stack.close)


if __name__ == "__main__":
    sys.exit(main())
