"""Any sequence of steps does on real Redis what the model in plain Python does (tests/line/model)."""

from shared.embedded import RedisServer
from tests.line.model.run import run_machine


def test_every_sequence_of_steps_does_what_the_model_does(redis_server: RedisServer) -> None:
    run_machine(redis_server.url, 50)
