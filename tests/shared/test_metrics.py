"""What is counted comes out as Prometheus reads it, and several processes tell it as one."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.telemetry.metrics import Metrics
from tests.support.exposition import Exposition
from tests.support.paths import ROOT
from tests.support.waiting import eventually

COUNTING = """
import asyncio, sys
from pathlib import Path
from shared.telemetry.metrics import Metrics

async def main(directory, amount):
    metrics = Metrics(Path(directory))
    metrics.counter("eggs", "Laid", "farm").add(amount, "ours")
    metrics.counter("plain", "Unlabelled").add(amount)
    metrics.gauge("hens", "There now").set(amount)
    metrics.gauge("oldest", "Of them", merge="max").set(amount)
    weights = metrics.histogram("weight", "Of an egg", "farm", bounds=(1.0, 2.0)).labelled("ours")
    for _ in range(amount):
        weights.observe(1.5)
    running = asyncio.create_task(metrics.run())
    await asyncio.sleep(0)
    print("published", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@contextmanager
def counting(directory: Path, amount: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has counted so much and says so in the directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", COUNTING, str(directory), str(amount)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"published\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def told(metrics: Metrics) -> Exposition:
    return Exposition(metrics.exposition().decode())


def test_a_histogram_counts_each_value_in_its_bucket_and_all_above() -> None:
    metrics = Metrics()
    seconds = metrics.histogram("seconds", "Taken", "endpoint", bounds=(0.1, 0.5, 1.0)).labelled("/join")
    for value in (0.0, 0.1, 0.2, 0.5, 0.7, 3.0):
        seconds.observe(value)

    found = told(metrics)
    buckets = {
        le: found.value("seconds_bucket", le=le, endpoint="/join") for le in found.labels("seconds_bucket", "le")
    }
    assert buckets == {"0.1": 2, "0.5": 4, "1.0": 5, "+Inf": 6}
    assert found.value("seconds_count") == 6
    assert found.value("seconds_sum") == pytest.approx(4.5)


def test_counters_are_totals_and_labels_are_written_as_they_are() -> None:
    metrics = Metrics()
    eggs = metrics.counter("eggs", "Laid", "farm", "colour")
    eggs.add(1, 'the "old"\\one\n', "brown")
    eggs.add(2.5, 'the "old"\\one\n', "brown")
    eggs.set(7, "ours", "white")

    found = told(metrics)
    assert found.value("eggs_total", farm='the "old"\\one\n', colour="brown") == 3.5
    assert found.value("eggs_total", farm="ours") == 7
    assert [(family.name, family.type, family.documentation) for family in found.families] == [
        ("eggs", "counter", "Laid")
    ]


def test_a_counter_without_labels_is_there_before_it_has_counted() -> None:
    metrics = Metrics()
    metrics.counter("plain", "Unlabelled")
    metrics.counter("eggs", "Laid", "farm")

    assert [(sample.name, sample.value) for sample in told(metrics).samples] == [("plain_total", 0)]


def test_what_is_counted_elsewhere_is_looked_up_when_somebody_asks() -> None:
    metrics, hens = Metrics(), 3
    gauge = metrics.gauge("hens", "There now")
    metrics.on_collect(lambda: gauge.set(hens))

    assert told(metrics).value("hens") == 3
    hens = 2
    assert told(metrics).value("hens") == 2


async def test_a_value_that_nobody_has_set_for_its_life_is_told_no_more() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("line", "Length", "event", ttl=0.2)
    gauge.set(5, "old")
    assert told(metrics).labels("line", "event") == {"old"}

    async def only_the_new() -> bool:
        gauge.set(6, "new")
        return told(metrics).labels("line", "event") == {"new"}

    await eventually(only_the_new)


def test_what_is_forgotten_is_told_no_more() -> None:
    metrics = Metrics()
    people = metrics.counter("people", "What became of them", "event", "what")
    for event in ("a", "ab"):
        people.set(1, event, "joined")
        people.set(1, event, "left")
    people.forget("a")

    assert told(metrics).labels("people_total", "event") == {"ab"}
    assert told(metrics).labels("people_total", "what") == {"joined", "left"}


def test_processes_are_added_up_and_the_dead_keep_only_what_they_counted(tmp_path: Path) -> None:
    with counting(tmp_path, 3), counting(tmp_path, 5) as second:
        both = told(Metrics(tmp_path))
        assert both.value("eggs_total", farm="ours") == 8
        assert both.value("plain_total") == 8
        assert both.value("weight_bucket", le="1.0") == 0
        assert both.value("weight_bucket", le="2.0") == both.value("weight_count") == 8
        assert both.value("weight_sum") == 12
        assert both.value("hens") == 8
        assert both.value("oldest") == 5
        second.kill()
        second.wait()
        one = told(Metrics(tmp_path))
    assert one.growing == both.growing
    assert one.value("hens") == one.value("oldest") == 3


async def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    metrics = Metrics(folder)
    metrics.gauge("hens", "There now").set(3)
    running = asyncio.create_task(metrics.run())
    try:
        await asyncio.sleep(0.1)
        assert not running.done()
        assert told(metrics).samples == []
        folder.mkdir()

        async def published() -> bool:
            return told(metrics).value("hens") == 3

        await eventually(published)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
