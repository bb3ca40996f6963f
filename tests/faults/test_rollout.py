"""A rolling restart under load, two versions side by side: no request is lost, nor any place. It is the scenario of
`make chaos`, for a few seconds."""

from tests.chaos.outcome import Outcome
from tests.chaos.scenarios import rollout
from tests.chaos.stage import Stage


async def test_no_request_is_lost_while_one_version_replaces_the_other() -> None:
    outcome = Outcome("rollout", "a rolling restart")
    async with Stage(outcome, seconds=10, seed=1) as stage:
        await rollout.rolling(stage)
    assert outcome.failures == []
    assert (outcome.lost, outcome.double, outcome.broken, outcome.refused) == (0, 0, 0, 0)
    assert outcome.faults >= 1
    assert outcome.people > 50
