"""Everything to query: the contract's queries, the dashboard's panels and the alert rules, as shipped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

SHIPPED: Final = Path(__file__).parents[2] / "shared" / "observability"

JOIN: Final = "/api/v1/queue/join"
QUERIES: Final = {
    "p95 of joins": "histogram_quantile(0.95, sum(rate("
    f'http_request_duration_seconds_bucket{{endpoint="{JOIN}"}}[5m])) by (le))',
    "pipelines per join": 'sum(rate(redis_commands_total{operation="pipeline"}[5m])) / '
    f'sum(rate(http_requests_total{{endpoint="{JOIN}"}}[5m]))',
}
"""The queries that the original was watched with (shared/line/DESIGN.md), the second one with its sums."""

WINDOW: Final = "30s"


class Query(NamedTuple):
    """A name and an expression."""

    name: str
    expr: str


def shortened(expr: str) -> str:
    """The same expression over a shorter time, and without Grafana's variables."""
    expr = expr.replace("$__rate_interval", WINDOW).replace("$event", ".*")
    return re.sub(r"\[\d+[smh]\]", f"[{WINDOW}]", expr)


def panels() -> Iterator[Query]:
    """Every query of the dashboard, by the title of its panel and its legend."""
    dashboard = json.loads((SHIPPED / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            several = len(panel["targets"]) > 1
            yield Query(panel["title"] + (f": {target['legendFormat']}" if several else ""), target["expr"])


def alerts() -> Iterator[Query]:
    """Every alert and its expression."""
    for group in rules()["groups"]:
        for rule in group["rules"]:
            yield Query(rule["alert"], rule["expr"])


def rules() -> dict[str, Any]:
    """The rule file."""
    loaded: dict[str, Any] = yaml.safe_load((SHIPPED / "alerts.yml").read_text())
    return loaded
