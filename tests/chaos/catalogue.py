"""Every scenario, in the order in which they are played."""

from functools import partial
from typing import Final

from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import api, linked, listeners, redis, rollout, visitors, worker
from tests.chaos.scenarios.fail_over import masters_killed

SCENARIOS: Final = (
    Scenario("api-killed", "SIGKILL of an api process in a burst", 30, api.killed),
    Scenario("worker-killed", "SIGKILL of a worker in each job", 45, worker.killed),
    Scenario("redis-killed", "SIGKILL of Redis, AOF always", 30, redis.killed),
    Scenario("power-cut", "the last second of the AOF lost, everysec", 25, redis.power_cut),
    Scenario("redis-frozen", "SIGSTOP of Redis for 10 s", 30, redis.frozen),
    Scenario("redis-slow", "delays, cuts and dead connections to Redis", 35, redis.slow),
    Scenario("redis-full", "no memory left in Redis, noeviction", 20, redis.full),
    Scenario("jobs-away", "job Redis gone or hung for two lives", 45, redis.jobs_away),
    Scenario("rollout", "a rolling restart, two versions", 30, rollout.rolling),
    Scenario("listeners", "SIGKILL, SIGTERM under people who listen", 45, listeners.listen, times=8),
    Scenario("fail-over", "SIGKILL of a cluster's master, 1 ack", 80, partial(masters_killed, acks=1), times=20),
    Scenario("fail-over-bare", "SIGKILL of a cluster's master, no acks", 30, partial(masters_killed, acks=0)),
    Scenario("visitors", "SIGKILL of an api, a master, a worker; 200 inside", 200, visitors.come_and_go, times=3),
    Scenario("model", "any steps, damage and repair, against a model", 60, linked.model),
    Scenario("fuzz", "requests of any kind", 30, linked.fuzz),
    Scenario("overload", "1.5 and 3 x the maximum, 20 x the connections", 90, linked.overload),
)
