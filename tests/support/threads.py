"""Runs blocking functions beside the loop."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

ParamT = ParamSpec("ParamT")
ReturnT = TypeVar("ReturnT")


async def in_thread(function: Callable[ParamT, ReturnT], *args: ParamT.args, **kwargs: ParamT.kwargs) -> ReturnT:
    """Runs a blocking function in a thread. If cancelled, it first waits for the function to end: what that starts must
    not outlive the stage.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
