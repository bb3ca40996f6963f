"""The figures of a run as one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

PANELS: Final = (
    ("per_second", "requests a second (one server core)", False),
    ("p99_ms", "p99 at 128 at once, ms", False),
    ("redis_us", "Redis CPU of a request, us", True),
    ("trips", "round trips of a request", True),
)


def draw(summary: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """Writes a PNG with a panel for each measure and a group of bars for each workload."""
    arms = list(dict.fromkeys(arm for rows in summary.values() for arm in rows))
    figure = Figure(figsize=(14, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    figure.suptitle(title)
    for panel, (measure, label, redis_only) in zip(axes.flat, PANELS, strict=True):
        width = 0.8 / len(arms)
        for number, arm in enumerate(arms):
            if redis_only and arm.startswith("noop"):
                continue
            spots = [(spot, rows[arm][measure]) for spot, rows in enumerate(summary.values()) if arm in rows]
            bars = panel.bar(
                [spot + (number - (len(arms) - 1) / 2) * width for spot, _ in spots],
                [value for _, value in spots],
                width,
                label=arm,
                color=f"C{number}",
            )
            panel.bar_label(bars, fmt="{:,.3g}" if measure == "trips" else "{:,.0f}", fontsize=6, padding=1)
        panel.set_xticks(range(len(summary)), list(summary))
        panel.set_title(label)
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=110)
