"""Any sequence of steps does on real Redis what the model in plain Python does (tests/line/model)."""

import pytest

from shared.dev.redis_server import RedisServer
from tests.line.model.run import run_machine


# Long, and what a cluster could change of it every other test here sees.
@pytest.mark.parametrize("redis_server", ["server"], indirect=True)
def test_every_sequence_of_steps_does_what_the_model_does(redis_server: RedisServer) -> None:
    run_machine(redis_server.url, 45)
