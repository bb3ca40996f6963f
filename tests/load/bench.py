"""Compares joins and polls of Daegi with the original's two ways and with a server that does nothing.

    python -m tests.load.bench                      all of it, about ten minutes
    python -m tests.load.bench --rounds 2 --fill 0 --arm daegi --arm pipelined --workload join

Each arm serves from one process on core 0; its Redis and wrk share core 1. Arms take turns in short rounds, each time
on an empty Redis and in rotating order. They are compared within a round, because a machine's speed drifts by more than
they differ. Redis: CPU us per request. trips: round trips to Redis per request. cmds: commands from clients per
request, without those inside scripts. bytes: memory per person in a line of --fill people. alone: round trips of a
join when nobody else joins. cores: how busy core 0 and core 1 were. Times are in ms. The open loop offers half of what
the closed one reached, however it is answered; its latencies count from when a request was due.
"""

import argparse
import contextlib
import dataclasses
import json
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from shared.dev.redis_server import LOCALHOST, RedisServerError, find_redis_server
from tests.load import report
from tests.load.openloop import offer
from tests.load.prefill import BATCH, SECRET, crowd, on_line, sign
from tests.load.rig import SETTLE_SECONDS, Arm, Load, Play, RigError, check_tools, redis_on_load_core
from tests.load.wire import Count, Relay

RESULTS: Final = Path(__file__).with_name("results")
WORKLOADS: Final = ("join", "keyed", "user", "poll", "lease", "enter", "gate")
OPEN_LOOP: Final = frozenset({"noop_body", "pipelined", "daegi"})
CROWDED: Final = frozenset({"poll", "lease", "enter", "gate"})
"""Workloads of people who are already in line, or inside."""
WORKLOADS_OF: Final = {
    "noop": frozenset({"join", "poll", "lease", "gate"}),
    "noop_body": frozenset({"join", "enter"}),
    "seven": frozenset({"join", "keyed"}),
    "pipelined": frozenset({"join", "keyed"}),
    "daegi": frozenset(WORKLOADS),
}
SERVE: Final = (sys.executable, "-m", "tests.load.arms", "--server", "{server}", "--port", "{port}")
DAEGI_SETTINGS: Final = {
    "DAEGI_TRUSTED_USER_HEADER": "X-User-Id",
    "DAEGI_LOG_LEVEL": "warning",
    "DAEGI_TOKEN_SECRETS": json.dumps([SECRET]),
}
ARMS: Final = {
    name: Arm(name, (*SERVE, "--redis", "{redis}", name), DAEGI_SETTINGS, workloads, not name.startswith("noop"))
    for name, workloads in WORKLOADS_OF.items()
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the command line."""

    arms: tuple[Arm, ...]
    workloads: tuple[str, ...]
    server: str
    rounds: int
    seconds: int
    connections: int
    fill: int
    open_seconds: int
    output: Path

    def pairs(self) -> Iterator[tuple[str, Arm]]:
        """Every workload with every arm that supports it."""
        for workload in self.workloads:
            for arm in self.arms:
                if workload in arm.workloads:
                    yield workload, arm


class Bench:
    """Runs the benchmark that the options describe."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._serial = 0

    def run(self) -> dict[str, Any]:
        """All figures; shows the progress on stderr."""
        options = self._options
        counted = {}
        for workload, arm in options.pairs():
            if arm.uses_redis and workload not in CROWDED:
                say(f"counting commands: {workload}, {arm.name}")
                counted[workload, arm.name] = self._count(workload, arm)
        with contextlib.ExitStack() as stack:
            plays = {arm.name: self._open(arm, stack) for arm in options.arms}
            rounds = list(self._rounds(plays))
            bytes_each = {}
            for workload, arm in options.pairs():
                if options.fill and arm.uses_redis and workload not in CROWDED:
                    say(f"filling: {options.fill:,} waiters, {workload}, {arm.name}")
                    bytes_each[workload, arm.name] = self._fill(plays[arm.name], workload)
            summary = report.summarise(rounds, bytes_each, counted)
            open_loop = [dataclasses.asdict(one) for one in self._offered(plays, summary)]
        flat = [dataclasses.asdict(each) for each in rounds]
        compared = {"gate / lease, daegi": report.beside(rounds, "daegi", "gate", "lease")}
        return {
            "about": about(options),
            "summary": summary,
            "beside": {name: ratios for name, ratios in compared.items() if ratios},
            "open_loop": open_loop,
            "rounds": flat,
        }

    def _offered(self, plays: dict[str, Play], summary: dict[str, Any]) -> Iterator[report.Offered]:
        """Joins at half the rate of the closed loop, which has to be measured first."""
        for arm, row in summary.get("join", {}).items():
            if arm not in OPEN_LOOP or not self._options.open_seconds:
                continue
            rate = row["per_second"] / 2
            say(f"open loop: {arm}, {rate:,.0f}/s for {self._options.open_seconds} s")
            with self._prepared(plays[arm], "join") as (_, event, seed):
                outcome = offer(
                    plays[arm].port,
                    rate=rate,
                    seconds=self._options.open_seconds,
                    connections=4 * self._options.connections,
                    event=event,
                    seed=seed,
                )
            yield report.Offered.of(arm, outcome)

    def _open(self, arm: Arm, stack: contextlib.ExitStack) -> Play:
        say(f"starting {arm.name}")
        url, redis = stack.enter_context(redis_on_load_core()) if arm.uses_redis else ("", None)
        play = stack.enter_context(Play(arm, self._options.server, url, redis, free_port()).served())
        before = play.read()
        time.sleep(2)
        passed = play.read() - before
        play.idle_cpu = passed.redis_cpu_us / passed.at
        self._load(play, "join", 1)  # opens connections and warms caches
        return play

    def _rounds(self, plays: dict[str, Play]) -> Iterator[report.Round]:
        options = self._options
        for number in range(options.rounds):
            for workload in options.workloads:
                names = [arm.name for each, arm in options.pairs() if each == workload]
                turn = number % max(len(names), 1)
                for name in names[turn:] + names[:turn]:
                    play = plays[name]
                    with self._prepared(play, workload) as words:
                        load, meters = play.measured(options.connections, options.seconds, *words)
                    say(f"round {number + 1} of {options.rounds}: {workload:<6} {name:<10} {load.per_second:8,.0f}/s")
                    yield report.Round(name, workload, number, load, meters, play.idle_cpu)

    def _load(self, play: Play, workload: str, seconds: int, connections: int | None = None) -> Load:
        with self._prepared(play, workload) as words:
            return play.load(connections or self._options.connections, seconds, *words)

    @contextlib.contextmanager
    def _prepared(self, play: Play, workload: str) -> Iterator[tuple[str, ...]]:
        """Empties Redis and yields the words for load.lua; users and keys are never used twice."""
        play.flush()
        self._serial += 1
        event, seed = f"bench-{self._serial}", f"{self._serial:08d}"
        if workload not in CROWDED:
            yield workload, event, seed
            return
        tokens = sign(event, [10**15 + number for number in range(2 * BATCH)])  # a no-op looks at no token
        if play.redis is not None:
            tokens = on_line(play.redis_url, lambda line: crowd(line, workload, event))
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="daegi-tokens-"))
            file.write("\n".join(tokens))
            file.flush()
            if workload == "lease" and play.redis is not None:
                # It publishes the index that these polls are answered from.
                stack.enter_context(play.worker())
                play.wait_for_memory(tokens)
            yield workload, event, seed, file.name

    def _fill(self, play: Play, workload: str) -> float:
        with self._prepared(play, workload) as (_, event, seed, *_):
            empty, waiters, part = play.memory(), 0, 0
            while waiters < self._options.fill:  # wrk is given a time, not a number of requests
                part += 1
                waiters += play.load(self._options.connections, 1, workload, event, f"{seed}-{part}").served
            time.sleep(SETTLE_SECONDS)
            return (play.memory() - empty) / waiters

    def _count(self, workload: str, arm: Arm) -> report.Counted:
        with contextlib.ExitStack() as stack:
            url, redis = stack.enter_context(redis_on_load_core())
            port = redis.connection_pool.connection_kwargs["port"]
            relay = stack.enter_context(Relay(port).running())
            url = url.replace(f":{port}/", f":{relay.port}/")
            play = stack.enter_context(Play(arm, self._options.server, url, redis, free_port()).served())
            self._load(play, workload, 1)
            _, together = self._relayed(play, workload, relay, self._options.connections)
            alone, one = self._relayed(play, workload, relay, 1)
            return report.Counted(
                commands_per_trip=together.commands / together.round_trips,
                alone_trips=one.round_trips / alone.served,
                alone_commands=one.commands / alone.served,
                connections=relay.count.connections,
            )

    def _relayed(self, play: Play, workload: str, relay: Relay, connections: int) -> tuple[Load, Count]:
        time.sleep(SETTLE_SECONDS)
        before = dataclasses.replace(relay.count)
        load = self._load(play, workload, 2, connections)
        time.sleep(SETTLE_SECONDS)
        return load, relay.count - before


def about(options: Options) -> dict[str, Any]:
    """Where, when and how it was measured."""
    server = find_redis_server()
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu.partition(":")[2].strip(),
        "python": platform.python_version(),
        "redis": server.version,
        "redis_server": server.path.name,
        "server": options.server,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": options.connections,
        "fill": options.fill,
    }


def picture(results: dict[str, Any], path: Path) -> str:
    """Draws the picture, and says where it is."""
    try:
        from tests.load.plot import draw
    except ModuleNotFoundError as error:
        return f"no picture: {error.name} is missing, which `make bench` installs"
    draw(results["summary"], f"Daegi, {results['about']['when']}, {results['about']['cpu']}", path)
    return str(path)


def say(text: str) -> None:
    """Progress, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def parse(argv: Sequence[str] | None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arm", action="append", choices=ARMS, help="measure this one (repeat; default: all)")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="and this (repeat; default: all)")
    parser.add_argument("--server", choices=("granian", "uvicorn"), default="granian", help="serves all (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one round of one arm (%(default)s)")
    parser.add_argument("--connections", type=int, default=128, help="requests at once (%(default)s)")
    parser.add_argument(
        "--fill", type=int, default=100_000, help="waiters to measure memory with, 0: none (%(default)s)"
    )
    parser.add_argument(
        "--open-seconds", type=int, default=10, help="length of the open loop of an arm, 0: none (%(default)s)"
    )
    parser.add_argument("--output", type=Path, help="JSON file (default: results/ beside this file, ignored by git)")
    given = parser.parse_args(argv)
    if min(given.rounds, given.seconds, given.connections) < 1:
        parser.error("--rounds, --seconds and --connections begin at 1")
    return Options(
        arms=tuple(ARMS[name] for name in dict.fromkeys(given.arm or ARMS)),
        workloads=tuple(dict.fromkeys(given.workload or WORKLOADS)),
        server=given.server,
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        fill=given.fill,
        open_seconds=given.open_seconds,
        output=given.output or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{given.server}.json",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON; returns 1 if a figure is worthless, 2 if nothing was measured."""
    options = parse(argv)
    try:
        check_tools()
        results = Bench(options).run()
    except (RigError, RedisServerError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1))
    print(report.table(results["summary"]))
    print(report.beside_table(results["beside"]))
    print(report.open_table(results["open_loop"]))
    for doubt in report.doubts(results["summary"]):
        print(f"! {doubt}")
    print("\n" + report.markdown(results))
    print(f"\n{options.output}\n{picture(results, options.output.with_suffix('.png'))}")
    return int(any(row["failed"] for arms in results["summary"].values() for row in arms.values()))


if __name__ == "__main__":
    sys.exit(main())
