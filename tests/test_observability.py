"""Rules, dashboard and run book speak of metrics that there are, and of each other; `make observe` runs them."""

import asyncio
import re
from typing import Any

import pytest
import yaml

from shared.dev.redis_server import RedisServer
from tests.observe.queries import QUERIES, SHIPPED, alerts, panels, rules
from tests.support.calls import client, configure, join, status
from tests.support.exposition import GROWING, Exposition, scrape
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.processes import Api, Worker
from tests.support.waiting import eventually

RUN_BOOK = "shared/observability/RUNBOOK.md"
ENTRIES = (ROOT / RUN_BOOK).read_text().partition("## When an alert fires\n")[2].partition("\n## ")[0] + "\n#"
RULES: list[dict[str, Any]] = [rule for group in rules()["groups"] for rule in group["rules"]]
ALERTS = [rule["alert"] for rule in RULES]
DASHBOARD: dict[str, Any] = yaml.safe_load((SHIPPED / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

OURS = re.compile(r"\b((?:daegi|http|redis)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
# Prometheus gives these to what it scrapes: a label of ours by that name would be renamed.
TAKEN = {"job", "instance"}


def missing(expr: str, told: Exposition) -> list[str]:
    """What an expression asks for that nobody tells."""
    found = []
    for name, matchers in OURS.findall(expr.replace("$event", ".*")):
        samples = [sample for sample in told.samples if sample.name == name]
        for label, how, value in MATCHER.findall(matchers):
            pattern = value if how == "=~" else re.escape(value)
            hits = [sample for sample in samples if re.fullmatch(pattern, sample.labels.get(label, ""))]
            samples = [sample for sample in samples if sample not in hits] if how == "!=" else hits
        if not samples:
            found.append(f"{name}{{{matchers}}}")
    return found


async def test_everything_asked_for_is_told_and_in_good_form() -> None:
    port = free_port()
    with RedisServer() as redis, Api(redis.url) as api, Worker(redis.url, worker_metrics_port=port) as worker:
        async with client(api.url) as http:
            await configure(http, "concert", max_active=100)
            await status(http, (await join(http, "concert"))["waiting_token"])

        async def swept() -> bool:
            found = await scrape(port)
            return "daegi_event_waiting{" in found.text and "daegi_redis_memory_bytes{" in found.text

        await eventually(swept)
        told = [await scrape(api.port), await scrape(port)]
        assert await asyncio.to_thread(worker.stop) == 0
    both = Exposition("".join(one.text for one in told))
    asked = [*QUERIES.items(), *panels(), *alerts()]
    assert {name: lost for name, expr in asked if (lost := missing(expr, both))} == {}
    for one in told:
        check_form(one)


def check_form(told: Exposition) -> None:
    assert told.families
    for family in told.families:
        assert re.fullmatch(r"(http|redis|daegi)_[a-z]+(_[a-z]+)*", family.name)
        assert re.fullmatch(r"[A-Z1].*[^.]", family.documentation)
        suffixes = SUFFIXES[family.type]
        assert {sample.name for sample in family.samples} <= {family.name + suffix for suffix in suffixes}
        assert (family.type in GROWING) == ("" not in suffixes)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
    for sample in told.samples:
        assert not TAKEN & set(sample.labels)
        assert ("le" in sample.labels) == sample.name.endswith("_bucket")
        assert all(re.fullmatch("[a-z]+", label) for label in sample.labels)
    names = [(sample.name, *sorted(sample.labels.items())) for sample in told.samples]
    assert len(set(names)) == len(names)


def test_what_is_not_told_is_noticed() -> None:
    told = Exposition('# TYPE daegi_jobs_total counter\ndaegi_jobs_total{outcome="done"} 1\n')
    for expr in ("daegi_job_total", 'daegi_jobs_total{outcome="gone"}', 'daegi_jobs_total{outcome!="done"}'):
        assert missing(f"sum(rate({expr}[5m])) > 0", told), expr
    for expr in ("daegi_jobs_total", 'daegi_jobs_total{outcome=~"done|left"}', 'daegi_jobs_total{outcome!="left"}'):
        assert not missing(f"sum(rate({expr}[5m])) > 0", told), expr


@pytest.mark.parametrize("rule", RULES, ids=ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do_and_the_run_book_says_more(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert len(rule["annotations"]["description"]) > len(rule["annotations"]["summary"])
    assert rule["annotations"]["runbook"] == f"{RUN_BOOK}#{name.lower()}"
    entry = re.search(rf"^### {name}\n(.+?)\n(?=\n#)", ENTRIES, re.MULTILINE | re.DOTALL)
    assert entry, f"{RUN_BOOK} has no entry {name}"
    assert re.search(r"\b[Ll]ook\b", entry[1]), "an entry says where to look"


def test_the_run_book_has_no_other_entries_and_names_panels_that_exist() -> None:
    assert re.findall(r"^### (\w+)$", ENTRIES, re.MULTILINE) == ALERTS
    titles = " ".join(panel["title"] for panel in PANELS)
    named = {" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", ENTRIES)}
    assert named
    assert {name for name in named if name not in titles} == set()


def test_each_alert_is_tested_to_fire() -> None:
    tests = (SHIPPED / "alerts_test.yml").read_text()
    patterns = re.findall(r'alertname(?:=~?"|: )([\w|.*]+)', tests)
    assert {name for name in ALERTS if not any(re.fullmatch(pattern, name) for pattern in patterns)} == set()


def test_panels_have_a_place_each_and_take_the_chosen_datasource() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "event"}
    for panel in PANELS:
        assert panel["targets"], panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
