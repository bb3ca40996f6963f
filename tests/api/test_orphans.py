"""A serving process does not outlive its parent."""

import os
import signal

import psutil

from shared.dev.redis_server import RedisServer, is_free
from tests.support.processes import Api
from tests.support.waiting import eventually


async def test_serving_processes_end_when_their_parent_was_killed(redis_server: RedisServer) -> None:
    with Api(redis_server.url, processes=2) as api:
        family = api.family()
        assert len(family) >= 3
        os.kill(api.process.pid, signal.SIGKILL)
        api.process.wait(10)

        async def gone() -> bool:
            return is_free(api.port) and not any(one.is_running() and not _is_zombie(one) for one in family)

        await eventually(gone)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
