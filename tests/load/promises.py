"""How true promised waits are, and how much of the rate comes in: `python -m tests.load.promises`.

Simulated crowds (tests/support/simulated_crowd.py). The table has a row for each scenario:

    in/s        people let in per second, from 20 s after the first join until a tenth is left; and of the rate
    at first    waits of at least 5 s that were promised when people joined: how many; by how much of the true wait
                they were off, median and 90th percentile; and the median of promised / true: above 1 is too long
    at all      the same of all promises, after the last change of settings
    ranges      promises of more than 30 s in whose time no setting was changed: how many; in how many the truth lay in
                the range; its median width, by its middle; and how many were followed by a later end than the range
                has, without a reason
    late        the longest, in s, that somebody came in after somebody behind them, beyond the pause before their poll
"""

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import replace

from shared.dev.redis_server import RedisServer
from tests.support.simulated_crowd import Change, Crowd, Inside, Kept, Outcome, Scenario

SETTLED, WORTH = 20.0, 5.0

BIG = Scenario("everybody enters", people=6000, within=1, rate=50, burst=200)
AWAY = replace(BIG, people=5000, within=20, burst=500, vanish=0.3, hoard=0.3)
SHORT = Scenario("1,300: 15 % vanish, 10 % hoard", people=1300, within=6, rate=40, burst=60, vanish=0.15, hoard=0.1)
SLOW = replace(SHORT, people=200, rate=2, burst=4)
LONG = replace(BIG, people=20_000, within=60, rate=100, burst=500)
PAUSE = Change(20, {"paused": "1"}), Change(60, {"paused": "0"})
GROUPS, QUICK = Inside(60, 15, 4, 0.3, 0.0), Inside(60, 15, 4, 0.3, 0.75)
CAPPED = replace(BIG, people=1500, within=20, rate=20, burst=80, inside=Inside(400, 60, 60))
SCENARIOS = (
    BIG,
    replace(BIG, name="3 of 10 hoard", hoard=0.3),
    replace(BIG, name="half hoard", hoard=0.5),
    replace(BIG, name="half hoard, burst 500", hoard=0.5, burst=500),
    replace(BIG, name="half vanish", vanish=0.5),
    replace(BIG, name="7 of 10 hoard", people=9000, hoard=0.7),
    replace(BIG, name="9 of 10 hoard", people=15_000, hoard=0.9),
    replace(BIG, name="500 hoarders in front, burst 500", people=3500, hoarders_in_front=500, burst=500),
    replace(BIG, name="5,000 in front, burst 500", people=8000, hoarders_in_front=5000, burst=500),
    replace(BIG, name="5,000 in front", people=8000, hoarders_in_front=5000),
    replace(AWAY, name="30 % vanish, 30 % hoard"),
    replace(AWAY, name="the same, all at once", within=1),
    replace(AWAY, name="the same, burst 200", burst=200),
    SHORT,
    replace(SHORT, name="the same, without workers", workers=False),
    replace(SHORT, name="1,300 who all enter", vanish=0, hoard=0),
    replace(SHORT, name="the same, without workers", vanish=0, hoard=0, workers=False),
    replace(SLOW, name="200 at 2 a second, 15 % and 10 %"),
    replace(SLOW, name="the same, all enter", vanish=0, hoard=0),
    replace(LONG, name="20,000 who all enter"),
    replace(LONG, name="the same, 15 % and 10 %", vanish=0.15, hoard=0.1),
    replace(BIG, name="rate 5, burst 0", people=600, rate=5, burst=0, hoard=0.2),
    replace(BIG, name="a few, fast", people=300, hoard=0.2, rate=20, burst=100),
    replace(BIG, name="rate halved after 30 s", hoard=0.2, changes=(Change(30, {"rate": "25"}),)),
    replace(BIG, name="rate doubled after 30 s", hoard=0.2, changes=(Change(30, {"rate": "100"}),)),
    replace(BIG, name="paused from 20 to 60 s", hoard=0.2, changes=PAUSE),
    replace(
        BIG,
        name="paused for 100 s, 1,000 in front gone",
        people=4000,
        gone_in_front=1000,
        changes=(Change(0, {"paused": "1"}), Change(100, {"paused": "0"})),
    ),
    replace(BIG, name="5 % leave, 5 % vanish, 5 % hoard", leave=0.05, vanish=0.05, hoard=0.05, within=30),
    replace(BIG, name="30 % leave", leave=0.3, patience=100.0, within=30),
    replace(BIG, name="30 % leave at once", leave=0.3, patience=10.0, within=30),
    replace(BIG, name="6 of 10 leave soon", leave=0.6, patience=20.0, within=60, people=9000),
    replace(BIG, name="3 % give up in a minute", hazard=0.0005, within=30),
    replace(BIG, name="a sixth gives up in a minute", hazard=0.003, within=60, people=9000),
    replace(BIG, name="the same, as they come", hazard=0.003, within=300, people=18_000),
    replace(SLOW, name="200 at 2/s, a sixth gives up in a minute", hazard=0.003),
    replace(CAPPED, name="cap 400: a sixth gives up in a minute", hazard=0.003),
    replace(CAPPED, name="cap 400: half released"),
    replace(CAPPED, name="cap 400: 5, 5, 5 %", leave=0.05, vanish=0.05, hoard=0.05),
    replace(CAPPED, name="cap 400: stays of one length", inside=Inside(400, 60, 60, 0.2)),
    replace(CAPPED, name="cap 400: stays differ much", inside=Inside(400, 60, 60, 2.0)),
    replace(CAPPED, name="cap 400: all released", inside=Inside(400, 300, 40, 1.0, 1.0)),
    replace(CAPPED, name="cap 400: nobody released", inside=Inside(400, 60, 60, 1.0, 0.0)),
    replace(CAPPED, name="cap 400: sessions of 5 minutes", people=800, inside=Inside(400, 300, 120)),
    replace(CAPPED, name="cap 2,000", people=6000, rate=50, burst=200, inside=Inside(2000, 60, 60)),
    replace(CAPPED, name="cap 50", people=200, rate=2, burst=8, inside=Inside(50, 30, 30)),
    replace(CAPPED, name="cap 60, groups leave together", people=600, rate=100, burst=400, inside=GROUPS),
    replace(CAPPED, name="cap 60, three in four released", people=600, rate=100, burst=400, inside=QUICK),
    replace(CAPPED, name="cap 100, nobody leaves for long", people=300, inside=Inside(100, 60, 240, 0.3)),
)


def _row(scenario: Scenario, outcome: Outcome) -> str:
    times = sorted(outcome.admitted.values())
    end, since = times[int(len(times) * 0.9)], max([0.0, *(change.at for change in scenario.changes)])
    settled = sum(SETTLED <= when < end for when in times)
    speed = settled / (end - SETTLED) if end > SETTLED + WORTH else 0.0
    share = f"{speed:6.1f} {speed / scenario.rate:5.0%}" if speed and not scenario.changes else f"{'-':>6} {'-':>5}"
    errors = (_errors(list(outcome.promises(since, polls, WORTH))) for polls in (1, None))
    columns = "  ".join([share, *errors, _ranges(list(outcome.ranges()))])
    return f"{scenario.name:38} {columns}  {outcome.overtaken():5.1f}"


def _ranges(ranges: Sequence[Kept]) -> str:
    if not ranges:
        return f"{0:6} {'-':>4} {'-':>5} {'-':>5}"
    kept = sum(one.kept for one in ranges) / len(ranges)
    width = statistics.median(2 * (high - low) / (high + low) for (_, _, low, high, _), _, _ in ranges)
    return f"{len(ranges):6} {kept:4.0%} {width:5.0%} {sum(one.rose for one in ranges):5}"


def _errors(promises: Sequence[tuple[float, float]]) -> str:
    if len(promises) < 2:
        return f"{len(promises):6} {'-':>5} {'-':>5} {'-':>5}"
    off = sorted(abs(promised - true) / true for promised, true in promises)
    ratio = statistics.median(promised / true for promised, true in promises)
    return f"{len(off):6} {off[len(off) // 2]:5.0%} {off[int(len(off) * 0.9)]:5.0%} {ratio:5.2f}"


async def main(only: str, seeds: Sequence[int]) -> None:
    """Prints the table."""
    print(f"{'':38} {'in/s':>6} {'':5}", end="")
    for name in ("first", "all"):
        print(f"  {name:>6} {'off':>5} {'p90':>5} {'ratio':>5}", end="")
    print(f"  {'ranges':>6} {'kept':>4} {'width':>5} {'rose':>5}  {'late':>5}")
    ranges: list[Kept] = []
    with RedisServer() as server:
        for scenario in SCENARIOS:
            for seed in seeds if only in scenario.name else ():
                outcome = await Crowd(scenario, server.url, seed).run()
                ranges += outcome.ranges()
                print(_row(scenario, outcome), flush=True)
    print(f"{'all':38} {_ranges(ranges):>78}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="the scenarios with this in their name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="NUMBER")
    options = parser.parse_args()
    asyncio.run(main(options.only, options.seeds))
