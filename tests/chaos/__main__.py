"""The long tests of survival: real processes are killed, frozen, cut off and replaced while people come (`make chaos`).

    python -m tests.chaos                              all of it, about 20 minutes
    python -m tests.chaos --only api-killed --seconds 300 --seed 7

Each scenario has its own Redis, api processes and workers. Every answer that people get is recorded. At the end it is
compared with Redis and the api: no acknowledged place, entry or redeem is lost or doubled, and nobody is overtaken.
"""

import argparse
import asyncio
import random
import signal
import sys
from collections.abc import Sequence

from tests.chaos.catalogue import SCENARIOS
from tests.chaos.display import Display
from tests.chaos.outcome import Outcome
from tests.chaos.report import table, write
from tests.chaos.scenario import Scenario, SkippedError
from tests.chaos.stage import Stage


def main(argv: Sequence[str] | None = None) -> int:
    """Plays the scenarios; returns 1 if a promise was broken, 130 if stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="play this one (repeat)")
    parser.add_argument("--seconds", type=float, help="of load in each (default: as each has it)")
    parser.add_argument("--seed", type=int, help="of what is drawn by lot (default: another one each time)")
    parser.add_argument("--list", action="store_true", help="say what there is")
    given = parser.parse_args(argv)
    if given.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:<18} {scenario.seconds:4.0f} s  {scenario.fault}")
        return 0
    chosen = [scenario for scenario in SCENARIOS if given.only is None or scenario.name in given.only]
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    outcomes: list[Outcome] = []
    print(f"seed {seed}", file=sys.stderr)
    try:
        asyncio.run(_play(chosen, given.seconds, seed, outcomes))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    finally:
        if outcomes:
            print(table(outcomes))
            print(f"\n{write(outcomes, seed)}")
    return int(any(outcome.failures for outcome in outcomes))


async def _play(scenarios: Sequence[Scenario], seconds: float | None, seed: int, outcomes: list[Outcome]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    display = Display(len(scenarios))
    for scenario in scenarios:
        outcome = Outcome(scenario.name, scenario.fault)
        lasts = seconds or scenario.seconds
        stage = Stage(outcome, lasts, seed, 0 if seconds else scenario.times)
        try:
            async with stage, display.showing(stage, lasts):
                await scenario.play(stage)
        except SkippedError as reason:
            outcome.skipped = str(reason)
        except Exception as error:  # noqa: BLE001 - the others are still played
            outcome.failures.append(f"it broke off: {type(error).__name__}: {error}")
        outcomes.append(outcome)
        display.ended(outcome)


if __name__ == "__main__":
    sys.exit(main())
