"""Scenarios that are measured elsewhere: overload, the parsers under any input, the model of the line. Each runs in its
own process, because it binds itself to cores or is busy for long."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Final

from tests.chaos.scenario import SkippedError
from tests.chaos.stage import Stage
from tests.support.paths import ROOT

INPUTS_A_SECOND: Final = 200
SEQUENCES_A_SECOND: Final = 4
OVERLOADS: Final = 3
"""Cases of overload in one run."""
AGAIN_SECONDS: Final = 5.0
"""Seconds to clean up after a Ctrl-C, before another one is sent."""
NOT_MEASURED: Final = 2
"""What overload exits with when a tool is missing."""


async def fuzz(stage: Stage) -> None:
    """The request parsers under any input."""
    stage.outcome.faults = inputs = round(INPUTS_A_SECOND * stage.seconds)
    arguments = ("--inputs", str(inputs), "--seed", str(stage.random.randrange(10**6)))
    code, said, log = await run(stage, "tests.chaos.fuzz", *arguments)
    stage.outcome.notes += said.splitlines()
    stage.expect(code == 0, f"it ended with {code}: {log[-2000:]}")


async def model(stage: Stage) -> None:
    """Any sequence of steps of people, workers and operators, held against a model in plain Python."""
    stage.outcome.faults = sequences = round(SEQUENCES_A_SECOND * stage.seconds)
    code, said, log = await run(stage, "tests.chaos.model", "--examples", str(sequences))
    stage.outcome.notes += said.splitlines()
    stage.expect(code == 0, f"it ended with {code}: {log[-4000:]}")


async def overload(stage: Stage) -> None:
    """Far more joins than can be served. Cases that miss in a first run, on a machine that is not idle, run again."""
    output = await stage.folder() / "overload.json"
    seconds = str(max(5, round(stage.seconds / OVERLOADS)))
    arguments = ("--seconds", seconds, "--output", str(output))
    code, said, log = await run(stage, "tests.load.overload", *arguments)
    if code == 1:
        code, said, log = await run(stage, "tests.load.overload", *arguments)
    if code == NOT_MEASURED:
        raise SkippedError(log.strip().splitlines()[-1])
    lines = [line for line in said.splitlines() if line.strip() and str(output) not in line]
    stage.outcome.failures += [line for line in lines if line.startswith("BROKEN")]
    stage.outcome.notes += [line for line in lines if not line.startswith("BROKEN")]
    stage.expect(code in {0, 1}, f"it ended with {code}: {log[-2000:]}")
    if output.exists():
        count(stage, output)


def count(stage: Stage, output: Path) -> None:
    """Adds up what overload has written."""
    outcomes = [finding["outcome"] for finding in json.loads(output.read_text())]
    stage.outcome.faults = len(outcomes)
    stage.outcome.people = sum(outcome["due"] for outcome in outcomes)
    stage.outcome.requests = sum(outcome["written"] for outcome in outcomes)
    stage.outcome.refused = sum(outcome["statuses"].get("503", 0) for outcome in outcomes)
    stage.outcome.broken = sum(outcome["broken"] for outcome in outcomes)
    stage.outcome.seconds = sum(outcome["seconds"] for outcome in outcomes)


async def run(stage: Stage, *command: str) -> tuple[int, str, str]:
    """Runs a module to its end; returns its exit code, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Ctrl-C reaches it only through us, once.
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log = bytearray()

    async def listen(stderr: asyncio.StreamReader) -> None:
        while part := await stderr.read(1 << 12):
            log.extend(part)
            spoken = [line for line in re.split(rb"[\r\n]+", bytes(log[-500:])) if line.strip()]
            stage.says = spoken[-1].decode(errors="replace")[:120] if spoken else ""

    try:
        said, _ = await asyncio.gather(process.stdout.read(), listen(process.stderr))
        return await process.wait(), said.decode(), log.decode(errors="replace")
    finally:
        while process.returncode is None:
            # Once may not be enough: an exception in a callback of the garbage collector is ignored.
            process.send_signal(signal.SIGINT)
            await asyncio.wait((asyncio.ensure_future(process.wait()),), timeout=AGAIN_SECONDS)
