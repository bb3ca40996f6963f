"""`make test-redis`: it runs what can be had, names what cannot, and fails only for a run that fails."""

import subprocess
from pathlib import Path

import pytest

from shared.dev.redis_server import RedisBinary
from tests import redis_versions
from tests.redis_versions import choose, main


def binary(product: str, version: str) -> RedisBinary:
    return RedisBinary(Path(f"/opt/{product}-{version}"), "of a test", product, version)


def test_each_version_is_the_first_that_fits() -> None:
    old, new, other, valkey = (
        binary("Redis", "7.0.15"),
        binary("Redis", "8.2.3"),
        binary("Redis", "7.4.1"),
        binary("Valkey", "8.1.4"),
    )
    found = {version.name: one for version, one in choose([old, new, other, valkey]).items()}
    assert found == {"Redis 6.2": None, "Redis 7": old, "Redis 8": new, "Valkey": valkey}


@pytest.mark.parametrize(("code", "verdict"), [(0, "passed"), (3, "FAILED (3)")])
def test_runs_each_on_its_binary_and_says_what_came_of_it(
    code: int, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def record(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[bytes]:
        ran.append((env["DAEGI_REDIS_SERVER"], command[-2:]))
        return subprocess.CompletedProcess(command, code)

    servers = [binary("Redis", "8.2.3"), binary("Valkey", "9.1.2")]
    monkeypatch.setattr(redis_versions, "installed", lambda: servers)
    monkeypatch.setattr(subprocess, "run", record)
    assert main(["tests/line", "-x"]) == (1 if code else 0)
    assert ran == [(str(server.path), ["tests/line", "-x"]) for server in servers]
    told = capsys.readouterr().out
    assert "Redis 6.2  not to be had" in told
    assert told.count(verdict) == 2

    assert main(["--only", "Redis 7"]) == 0
    assert len(ran) == 2
