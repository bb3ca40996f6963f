"""A Prometheus of our own, queried over its HTTP API. Its configuration is the shipped one, but for the addresses."""

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import yaml

from shared.dev.redis_server import LOCALHOST
from shared.dev.watchdog import Watchdog
from tests.observe.queries import SHIPPED
from tests.observe.report import Row
from tests.support.ports import free_port

_START_SECONDS: Final = 60


class ToolsMissingError(Exception):
    """A tool that is needed is missing."""


class Tools(NamedTuple):
    """The paths of the tools."""

    prometheus: str
    promtool: str


def find_tools() -> Tools:
    """The tools on PATH; raises ToolsMissingError."""
    found = {name: shutil.which(name) for name in Tools._fields}
    if missing := [name for name, path in found.items() if path is None]:
        raise ToolsMissingError(f"{' and '.join(missing)} not found on PATH: apt-get install prometheus")
    return Tools(*map(str, found.values()))


class Sample(NamedTuple):
    """One series of an answer."""

    labels: dict[str, str]
    value: float


class QueryError(Exception):
    """Prometheus rejects the query."""


class Prometheus:
    """Scrapes and evaluates every second. `targets` are ports on this machine, by the job's name."""

    def __init__(self, tools: Tools, targets: Mapping[str, int]) -> None:
        self._tools = tools
        self._targets = targets
        self._port = free_port()
        self._directory = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def start(self) -> Self:
        """Returns when it is ready."""
        self._directory = Path(tempfile.mkdtemp(prefix="daegi-prometheus-"))
        config = self._directory / "prometheus.yml"
        config.write_text(self.config())
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(self._tools.prometheus, f"--config.file={config}", "--log.level=warn"),
                    *(f"--storage.tsdb.path={self._directory / 'data'}", f"--web.listen-address={self._address}"),
                ],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog = Watchdog(self._process.pid, signal.SIGKILL, self._directory)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ToolsMissingError(f"prometheus does not start:\n{(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def close(self) -> None:
        """Ends it; nothing is left."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watchdog is not None:
            self._watchdog.dismiss()
        if self._process is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def config(self) -> str:
        """The shipped configuration with our addresses, scraping every second."""
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(SHIPPED / name) for name in config["rule_files"]]
        for scrape in config["scrape_configs"]:
            del scrape["dns_sd_configs"]
            scrape["static_configs"] = [{"targets": [f"{LOCALHOST}:{self._targets[scrape['job_name']]}"]}]
        return yaml.safe_dump(config)

    async def query(self, expr: str) -> list[Sample]:
        """The samples of a query now; raises QueryError."""
        found = (await self._get("query", query=expr))["result"]
        if isinstance(found, list) and found and not isinstance(found[0], dict):
            return [Sample({}, float(found[1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in found]

    async def alerts(self) -> dict[str, str]:
        """The state of each alert that is pending or firing, the more severe one of several."""
        found: dict[str, str] = {}
        for alert in (await self._get("alerts"))["alerts"]:
            name = alert["labels"]["alertname"]
            found[name] = "firing" if "firing" in (found.get(name), alert["state"]) else "pending"
        return found

    async def unhealthy(self) -> list[str]:
        """What is wrong with rules and targets."""
        rules = [rule for group in (await self._get("rules"))["groups"] for rule in group["rules"]]
        targets = (await self._get("targets"))["activeTargets"]
        wrong = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
        return wrong + [f"{one['scrapeUrl']}: {one['lastError']}" for one in targets if one["health"] != "up"]

    @property
    def _address(self) -> str:
        return f"{LOCALHOST}:{self._port}"

    async def _get(self, path: str, **query: str) -> Any:
        return await asyncio.to_thread(self._ask, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")

    def _ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error).get("error", str(error))) from error

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


async def promtool(tools: Tools, name: str, *arguments: str, given: bytes | None = None) -> Row:
    """What promtool says about something, run in the folder of the shipped files."""
    process = await asyncio.create_subprocess_exec(
        *(tools.promtool, *arguments),
        cwd=SHIPPED,
        stdin=asyncio.subprocess.PIPE if given is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(given)
    # It may complain about metrics and still exit with 0.
    fine = process.returncode == 0 and (given is None or not said)
    return Row("promtool", name, "", "ok" if fine else f"error: {said.decode(errors='replace').strip()[-600:]}")
