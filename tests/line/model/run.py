"""Runs the machine: `make test` a little, `make chaos` for long."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.line.model.endings import Whole
from tests.line.model.event import CHUNK, EXACT_ZONE, MILESTONES


def run_machine(url: str, examples: int, progress: Callable[[int], None] = lambda done: None) -> None:
    """So many sequences of steps on the Redis of this URL; tells `progress` how many are done. Raises what is wrong."""
    done = 0

    class Counted(Whole):
        def teardown(self) -> None:
            nonlocal done
            super().teardown()
            done += 1
            progress(done)

    Counted.url = url
    with pytest.MonkeyPatch.context() as patch:
        for module in ("shared.line.line", "workers.jobs.repair"):
            patch.setattr(f"{module}.CHUNK", CHUNK)
        patch.setattr("shared.line.line.MILESTONES", MILESTONES)
        # A machine that stands still for a while is no outage.
        patch.setattr("shared.redis.connect.ANSWER_TIMEOUT", 60)
        patch.setattr("api.serving.position_cache.EXACT_ZONE", EXACT_ZONE)
        run_state_machine_as_test(
            Counted,
            settings=settings(
                max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
