"""The files that describe the stack: nothing starts it here, so they are checked against what there is."""

from __future__ import annotations

import copy
import fnmatch
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.paths import ROOT
from tests.support.shipped import shipped_files

TOP_LEVEL = {
    "api", "shared", "tests", "workers", "CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "Procfile", "README.md",
    "docker-compose.yml", "pyproject.toml",
}  # fmt: skip


def read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))
    return loaded


@pytest.fixture(scope="module")
def compose_schema() -> Draft202012Validator:
    """The compose specification's own schema, as the check-jsonschema package carries it."""
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], "builtin_schemas", "vendor")
    schema = json.loads((folder / "compose-spec.json").read_text())
    assert schema["title"] == "Compose Specification"
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def top_level() -> set[str]:
    """What belongs to the repository, whether committed yet or not."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return {name.split("/")[0] for name in listed.split("\0") if name and (ROOT / name).exists()}
    made = ("*.egg-info", "build", "dist")
    return {path.name for path in ROOT.iterdir() if not any(fnmatch.fnmatch(path.name, name) for name in made)}


class TestCompose:
    def test_fits_the_specification(self, compose: dict[str, Any], compose_schema: Draft202012Validator) -> None:
        assert [error.message for error in compose_schema.iter_errors(compose)] == []

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda file: file["services"]["api"].update(comand="x"),
            lambda file: file["services"]["api"].update(ports="8000:8000"),
            lambda file: file["services"]["redis"]["healthcheck"].update(retries="often", tries=3),
            lambda file: file["services"]["worker"]["depends_on"]["redis"].update(condition="healthy"),
            lambda file: file.update(service={}),
        ],
    )
    def test_a_broken_one_is_noticed(
        self,
        spoil: Callable[[dict[str, Any]], None],
        compose: dict[str, Any],
        compose_schema: Draft202012Validator,
    ) -> None:
        broken = copy.deepcopy(compose)
        spoil(broken)
        assert not compose_schema.is_valid(broken)

    def test_runs_the_three_services_with_health_checks(self, compose: dict[str, Any]) -> None:
        core = {name: service for name, service in compose["services"].items() if "profiles" not in service}
        assert set(core) == {"redis", "api", "worker"}
        for service in core.values():
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
            assert service["restart"] == "unless-stopped"
            assert "stop_grace_period" in service

    def test_redis_keeps_the_line(self, compose: dict[str, Any]) -> None:
        redis = compose["services"]["redis"]
        options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
        assert options["--appendonly"] == "yes"
        assert options["--maxmemory-policy"] == "noeviction"
        assert redis["volumes"] == ["redis-data:/data"]
        assert "redis-data" in compose["volumes"]

    def test_api_and_worker_can_be_scaled(self, compose: dict[str, Any]) -> None:
        for name in ("api", "worker"):
            assert "container_name" not in compose["services"][name]
        (mapping,) = compose["services"]["api"]["ports"]
        host, published, target = mapping.split(":")
        first, last = map(int, published.split("-"))
        assert (host, target) == ("127.0.0.1", "8000")
        assert last > first

    def test_commands_name_modules_that_exist(self, compose: dict[str, Any]) -> None:
        modules = []
        for name in ("api", "worker"):
            python, dash_m, module = compose["services"][name]["command"]
            assert (python, dash_m) == ("python", "-m")
            modules.append(module)
            assert (ROOT / module / "__main__.py").is_file()
        assert modules == ["api", "workers"]
        check = compose["services"]["worker"]["healthcheck"]["test"]
        assert check[1:] == ["arq", "--check", "workers.main.WorkerSettings"]
        assert re.search(r"\bWorkerSettings\b", read("workers/main.py"))

    def test_starts_with_strong_secrets_only(self, compose: dict[str, Any]) -> None:
        assert compose["services"]["api"]["environment"]["DAEGI_ENVIRONMENT"] == "production"

    def test_hands_on_settings_that_exist(self, compose: dict[str, Any]) -> None:
        from shared.settings import Settings

        known = {f"DAEGI_{name.upper()}" for name in Settings.model_fields}
        assert set(compose["services"]["api"]["environment"]) <= known
        assert compose["services"]["api"]["environment"] == compose["services"]["worker"]["environment"]


class TestProcfile:
    def test_is_an_api_and_a_worker(self) -> None:
        processes = dict(line.split(": ", 1) for line in read("Procfile").splitlines() if line)
        assert processes == {"api": ".venv/bin/python -m api", "worker": ".venv/bin/python -m workers"}


class TestDockerfile:
    @pytest.fixture
    def stages(self) -> list[list[tuple[str, str]]]:
        text = re.sub(r"\\\n\s*", " ", read("Dockerfile"))
        lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
        found: list[list[tuple[str, str]]] = []
        for word, rest in lines:
            if word == "FROM":
                found.append([])
            found[-1].append((word, rest))
        return found

    def test_ends_as_somebody_without_rights(self, stages: list[list[tuple[str, str]]]) -> None:
        users = [rest for word, rest in stages[-1] if word == "USER"]
        assert users
        user = users[-1].split(":")[0]
        assert user.isdigit()
        assert int(user) > 0
        words = [word for word, _ in stages[-1]]
        assert words.index("USER") < words.index("CMD")

    def test_builds_in_another_stage_from_the_pins(self, stages: list[list[tuple[str, str]]]) -> None:
        assert [rest.split()[0] for stage in stages for word, rest in stage if word == "FROM"] == (
            ["python:3.11-slim"] * 2
        )
        installs = [rest for word, rest in stages[0] if word == "RUN" and "pip install" in rest]
        assert installs
        assert all("--constraint .constraints.txt" in rest for rest in installs)
        assert "--group" not in " ".join(installs)
        assert not any(word == "RUN" for word, _ in stages[-1])

    def test_copies_what_is_there_and_not_ignored(self, stages: list[list[tuple[str, str]]]) -> None:
        kept = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
        copied = {
            source
            for word, rest in stages[0]
            if word == "COPY"
            for source in rest.split()[:-1]
        }  # fmt: skip
        assert copied == kept
        assert all((ROOT / name).exists() for name in copied)
        assert {name.split("/")[0] for name in shipped_files()} <= copied

    def test_starts_with_strong_secrets_only(self, stages: list[list[tuple[str, str]]]) -> None:
        assert "DAEGI_ENVIRONMENT=production" in dict(stages[-1])["ENV"].split()

    def test_says_how_it_is(self, stages: list[list[tuple[str, str]]]) -> None:
        final = dict(stages[-1])
        assert final["EXPOSE"] == "8000"
        assert json.loads(final["CMD"]) == ["python", "-m", "api"]
        interpreter, dash_c, code = json.loads(final["HEALTHCHECK"].split("CMD ", 1)[1])
        assert (interpreter, dash_c) == ("python", "-c")
        compile(code, "HEALTHCHECK", "exec")


class TestMakefile:
    @pytest.mark.parametrize(
        "target",
        [
            "setup",
            "run",
            "demo",
            "test",
            "test-browser",
            "test-proxies",
            "test-redis",
            "lint",
            "format",
            "audit",
            "observe",
            "constraints",
            "clean",
            "help",
        ],
    )
    def test_has_the_target_and_tells_it(self, target: str) -> None:
        shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.search(rf"^  make {target} +\S", shown, re.MULTILINE), shown

    def test_ci_runs_the_checks_and_the_tests(self) -> None:
        script = ROOT / ".ci" / "run"
        assert script.stat().st_mode & 0o111
        lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
        assert lines[0] == "set -euo pipefail"
        assert lines[-3:] == ["make test-browser", "make lint", "make test"]


class TestTree:
    def test_the_top_level_holds_what_was_agreed(self) -> None:
        assert {name for name in top_level() if not name.startswith(".")} == TOP_LEVEL

    def test_pins_are_versions_and_nothing_else(self) -> None:
        lines = [line for line in read(".constraints.txt").splitlines() if not line.startswith("#")]
        assert "redis==5.3.1" in lines
        for line in lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+(?:; [^@/]+)?", line)
        assert lines == sorted(lines, key=lambda line: line.upper())

    def test_everything_asked_for_is_pinned(self) -> None:
        project = tomllib.loads(read("pyproject.toml"))
        groups = [group for name, group in project["dependency-groups"].items() if name != "dev"]
        wanted = [*project["project"]["dependencies"], *(item for group in groups for item in group)]
        pinned = {line.split("==")[0] for line in read(".constraints.txt").splitlines()}
        normal = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
        for requirement in wanted:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert name is not None
            assert re.sub(r"[-_.]+", "-", name[0]).lower() in normal, requirement

    def test_everything_but_what_is_for_a_laptop_is_shipped(self) -> None:
        ours = {
            path.relative_to(ROOT).as_posix()
            for top in ("api", "shared", "workers")
            for path in (ROOT / top).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert any(name.endswith(".lua") for name in ours)
        assert shipped_files() == {name for name in ours if not name.startswith("shared/dev/")}
