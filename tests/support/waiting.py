"""Waits until a condition becomes true."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(happened: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    """Repeats `happened` until its result is true, and returns that; fails the test if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        if found := await happened():
            return found
        assert time.monotonic() < deadline, f"{happened} did not come true within {seconds} s"
        await asyncio.sleep(0.05)
