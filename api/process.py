"""This process: how its interpreter is tuned, and when it ends."""

import asyncio
import gc
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable

_ORPHAN_SECONDS = 5
"""Seconds that a process without a parent has to shut down cleanly."""


def tune_interpreter() -> None:
    """Tunes garbage collection and thread switching. Call it once every long-lived object exists."""
    # Requests leave no reference cycles: looking for them after every 700 objects took a sixth of the loop's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # Granian does its I/O in another thread, which by default waits up to 5 ms for the GIL. This is 2 to 8 % faster.
    sys.setswitchinterval(0.00005)


def most_files() -> int:
    """How many files this process may open. Granian raises the soft limit to it itself."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else files


def exit_when_orphaned() -> None:
    """Ends this process when its parent is gone: otherwise nobody would ever stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def look() -> None:
        if os.getppid() == parent.pid:
            loop.call_later(1, look)
            return
        os.kill(os.getpid(), signal.SIGINT)
        # Granian never notices a signal that arrived while it was starting.
        loop.call_later(_ORPHAN_SECONDS, os.kill, os.getpid(), signal.SIGKILL)

    loop.call_later(1, look)


def drain_first(seconds: float, draining: Callable[[], None], ending: Callable[[], Awaitable[None]]) -> None:
    """On SIGTERM calls `draining`, and `seconds` later, when balancers no longer send requests, `ending`. Then it stops
    the server.

    The server alone would close its port at once, and then wait for streams that never end. SIGINT stops it too, so it
    is left to the server.
    """
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []

    async def drain() -> None:
        draining()
        await asyncio.sleep(seconds)
        try:
            await ending()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def begin() -> None:
        if not tasks:
            tasks.append(loop.create_task(drain()))

    loop.add_signal_handler(signal.SIGTERM, begin)


async def cancel(task: "asyncio.Task[None]") -> None:
    """Ends a task and waits for its end."""
    # Once is not enough: redis-py sends within wait_for, which in Python 3.11 sometimes loses a cancellation.
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.5)
