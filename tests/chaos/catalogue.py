"""Every scenario, in the order in which they are played."""

from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import api, redis, rollout

SCENARIOS: Final = (
    Scenario("api-killed", "SIGKILL of an api process in a burst", 40, api.killed),
    Scenario("redis-killed", "SIGKILL of Redis, AOF always", 40, redis.killed),
    Scenario("rollout", "a rolling restart, two versions side by side", 45, rollout.rolling),
    Scenario("redis-frozen", "SIGSTOP of Redis for 10 s", 35, redis.frozen),
)
