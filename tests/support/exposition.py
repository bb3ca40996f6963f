"""What a process exports on /metrics, parsed as Prometheus does."""

import asyncio
import urllib.request
from collections.abc import Mapping
from functools import cached_property

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from shared.dev.redis_server import LOCALHOST

GROWING = ("counter", "histogram")


class Exposition:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def families(self) -> list[Metric]:
        """The metrics; raises ValueError if it is not a valid exposition."""
        return list(text_string_to_metric_families(self.text))

    @cached_property
    def samples(self) -> list[Sample]:
        """All samples of all metrics."""
        return [sample for family in self.families for sample in family.samples]

    @property
    def growing(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """The samples that must never decrease, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            if family.type in GROWING
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and at least these labels."""
        return sum(sample.value for sample in self.samples if sample.name == name and has(sample.labels, labels))

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label of this name's samples."""
        return {sample.labels[label] for sample in self.samples if sample.name == name}


def has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether these are among the labels."""
    return wanted.items() <= labels.items()


async def scrape(port: int) -> Exposition:
    """Over a connection of its own, so that any of several processes may answer."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{LOCALHOST}:{port}/metrics", timeout=10) as answer:
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            text: str = answer.read().decode()
            return text

    return Exposition(await asyncio.to_thread(read))
