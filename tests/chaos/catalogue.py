"""Every scenario, in the order in which they are played."""

from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import api, redis, rollout, worker

SCENARIOS: Final = (
    Scenario("api-killed", "SIGKILL of an api process in a burst", 35, api.killed),
    Scenario("worker-killed", "SIGKILL of a worker in each job", 60, worker.killed),
    Scenario("redis-killed", "SIGKILL of Redis, AOF always", 35, redis.killed),
    Scenario("power-cut", "the last second of the AOF lost, everysec", 30, redis.power_cut),
    Scenario("redis-frozen", "SIGSTOP of Redis for 10 s", 35, redis.frozen),
    Scenario("redis-slow", "delays, cuts and dead connections to Redis", 40, redis.slow),
    Scenario("redis-full", "no memory left in Redis, noeviction", 30, redis.full),
    Scenario("jobs-away", "job Redis gone or hung for two lives", 50, redis.jobs_away),
    Scenario("rollout", "a rolling restart, two versions", 40, rollout.rolling),
)
