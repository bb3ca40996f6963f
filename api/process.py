"""This process among its parents and peers: how its interpreter is tuned, and when it ends."""

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

_ORPHAN_SECONDS = 5
"""A process without a parent has this long to end in good order."""


def tune_interpreter() -> None:
    """Once all that lives as long as the process has been made."""
    # Requests leave no cycles behind: looking for them after every 700 objects took a sixth of the loop's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # Granian reads and writes in a thread of its own, which would wait up to 5 ms for its turn: 2 to 8 % faster so.
    sys.setswitchinterval(0.00005)


def exit_when_orphaned() -> None:
    """Ends this process when the one that started it is gone: nobody would ever stop it otherwise."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def look() -> None:
        if os.getppid() == parent.pid:
            loop.call_later(1, look)
            return
        os.kill(os.getpid(), signal.SIGINT)
        # Granian never hears of a signal that came while it started.
        loop.call_later(_ORPHAN_SECONDS, os.kill, os.getpid(), signal.SIGKILL)

    loop.call_later(1, look)


def drain_first(seconds: float, draining: Callable[[], None]) -> None:
    """On SIGTERM calls `draining`, and stops the server only some seconds later, when balancers send nobody any more.

    By itself it would close its port at once. SIGINT means the same to servers, and stays theirs.
    """
    loop = asyncio.get_running_loop()
    begun = False

    def drain() -> None:
        nonlocal begun
        if not begun:
            begun = True
            draining()
            loop.call_later(seconds, os.kill, os.getpid(), signal.SIGINT)

    loop.add_signal_handler(signal.SIGTERM, drain)


async def cancel(task: "asyncio.Task[None]") -> None:
    """Ends a task and waits for its end."""
    # Once is not enough: Python 3.11's wait_for, under which redis-py sends, now and then loses a cancellation.
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.5)
