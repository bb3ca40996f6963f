"""An api that hands out passes for sites without a gate, and verifiers of such a site, written as the recipes say."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from shared.dev.redis_server import RedisServer
from tests.gate.conftest import Declare, NewVisitor, declare, new_visitor
from tests.support.pass_keys import new_key
from tests.support.paths import ROOT
from tests.support.processes import Api

__all__ = ["Declare", "NewVisitor", "declare", "new_visitor"]

RECIPE = (ROOT / "shared" / "recipes" / "README.md").read_text()
JOSE = ROOT / ".venv" / "node" / "node_modules" / "jose"
"""Installed by `make test-browser`, with npm."""

Verify = Callable[[str], Awaitable[dict[str, Any] | None]]
"""The claims of a token that a site takes, else None."""


class SignedApi(Api):
    """Knows its own URL, which its passes name as their issuer."""

    def __init__(self, redis_url: str, *keys: str, **settings: Any) -> None:
        super().__init__(redis_url, pass_keys=list(keys), **settings)
        self._environment["DAEGI_PUBLIC_URL"] = self.url


@pytest.fixture(scope="session")
def keys() -> list[str]:
    """What it signs with, and a key that is only published."""
    return [new_key(), new_key()]


@pytest.fixture(scope="session")
def site_api(redis_server: RedisServer, keys: list[str]) -> Iterator[SignedApi]:
    """One api for all that do not hurt it."""
    with SignedApi(redis_server.url, *keys, trusted_user_header="X-User-Id") as api:
        yield api


def recipe(language: str, url: str, event: str) -> str:
    """The recipe in this language, for another waiting room and another event."""
    (code,) = re.findall(rf"```{language}\n(.*?)```", RECIPE, re.DOTALL)
    assert "https://queue.example" in code
    assert '"checkout"' in code
    return str(code).replace("https://queue.example", url).replace('"checkout"', json.dumps(event))


def in_python(url: str, event: str) -> Verify:
    """A site in Python, with PyJWT."""
    site: dict[str, Any] = {}
    exec(compile(recipe("python", url, event), "recipe", "exec"), site)
    recipe_of = SimpleNamespace(**site)

    async def verify(token: str) -> dict[str, Any] | None:
        try:
            return dict(await asyncio.to_thread(recipe_of.verify, token))
        except recipe_of.jwt.PyJWTError:
            return None

    return verify


def in_node(url: str, event: str) -> Verify:
    """A site in JavaScript, with jose."""
    if not JOSE.exists() or not shutil.which("node"):
        pytest.skip("jose is not installed: `make test-browser` has npm do it")
    program = recipe("js", url, event) + (
        "for (const token of process.argv.slice(1))\n"
        "  console.log(JSON.stringify(await verify(token).catch((error) => ({ refused: error.code }))));\n"
    )

    async def verify(token: str) -> dict[str, Any] | None:
        command = ["node", "--input-type=module", "--eval", program, "--", token]
        asked = await asyncio.to_thread(
            subprocess.run, command, cwd=JOSE.parent, capture_output=True, text=True, timeout=60, check=False
        )
        assert asked.returncode == 0, asked.stderr
        told = json.loads(asked.stdout)
        # A fault of the program itself has no code of jose's.
        assert "refused" not in told or told["refused"].startswith("ERR_J"), told
        return None if "refused" in told else dict(told)

    return verify
