"""What blocks, run beside the loop."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

ParamT = ParamSpec("ParamT")
ReturnT = TypeVar("ReturnT")


async def in_thread(function: Callable[ParamT, ReturnT], *args: ParamT.args, **kwargs: ParamT.kwargs) -> ReturnT:
    """Runs what blocks. Cancelled, it first waits for its end: what it starts must not outlive the stage."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
