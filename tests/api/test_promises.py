"""Promised waits against what became of them: counted, and not counted."""

import httpx
import pytest

from api.queue import promises as module
from api.queue.promises import Promises
from shared.telemetry.metrics import Metrics
from tests.support.calls import configure, enter, join, leave, status
from tests.support.exposition import Exposition
from tests.support.waiting import eventually

NOW = 1_800_000_000_000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def promises(metrics: Metrics) -> Promises:
    return Promises(metrics)


def counted(metrics: Metrics) -> dict[str, float]:
    """Promises by outcome, and the sum of the ratios of true to promised waits."""
    told = Exposition(metrics.exposition().decode())
    found = {
        sample.labels["outcome"]: sample.value for sample in told.samples if sample.name == "daegi_wait_promises_total"
    }
    [total] = [sample.value for sample in told.samples if sample.name == "daegi_wait_promise_ratio_sum"]
    return found | {"ratios": total}


@pytest.mark.parametrize(
    ("after", "outcome"), [(79, "early"), (80, "kept"), (100, "kept"), (120, "kept"), (121, "late")]
)
def test_who_is_let_in_is_compared_with_what_was_promised(
    promises: Promises, metrics: Metrics, after: int, outcome: str
) -> None:
    promises.note(1, 100.0, (80, 120), NOW)
    promises.settle(1, NOW + 1000 * after, 0)
    expected = {"kept": 0.0, "early": 0.0, "late": 0.0, outcome: 1.0, "ratios": after / 100}
    assert counted(metrics) == pytest.approx(expected)


def test_the_first_promise_counts_and_only_once(promises: Promises, metrics: Metrics) -> None:
    promises.note(1, 100.0, (80, 120), NOW)
    promises.note(1, 50.0, (40, 60), NOW + 10_000)
    for _ in range(2):
        promises.settle(1, NOW + 100_000, 0)
    assert counted(metrics) == pytest.approx({"kept": 1, "early": 0, "late": 0, "ratios": 1})


def test_what_was_promised_before_a_change_is_void(promises: Promises, metrics: Metrics) -> None:
    promises.note(1, 100.0, (80, 120), NOW)
    promises.note(2, 100.0, (80, 120), NOW + 2)
    for ticket in (1, 2, 3):
        promises.settle(ticket, NOW + 100_000, NOW + 1)
    assert counted(metrics)["kept"] == 1


def test_a_process_remembers_so_many_and_forgets_who_never_came(
    promises: Promises, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    for ticket in (1, 2, 3):
        promises.note(ticket, 100.0, (80, 120), NOW)
    # Long after they should have come, others have their room.
    later = NOW + 3 * 120_000
    promises.note(4, 100.0, (80, 120), later)
    for ticket in (1, 2, 3, 4):
        promises.settle(ticket, later + 100_000, 0)
    assert counted(metrics) == pytest.approx({"kept": 1, "early": 0, "late": 0, "ratios": 1})


async def early(http: httpx.AsyncClient) -> float:
    """How many people came in too early."""
    told = Exposition((await http.get("/metrics")).text)
    return told.value("daegi_wait_promises_total", outcome="early")


@pytest.mark.usefixtures("redis")
async def test_whoever_comes_in_is_compared_with_what_a_poll_said_unless_the_rate_was_changed(
    http: httpx.AsyncClient, event: str
) -> None:
    before = await early(http)
    for name, changed in ((f"{event}-changed", True), (event, False)):
        await configure(http, name, rate=0.1, burst=2)
        *others, last = [(await join(http, name))["waiting_token"] for _ in range(10)]
        stands = await status(http, last)
        assert stands["eta_sec"] > 30
        assert stands["eta_range_sec"][0] > 10
        if changed:
            await configure(http, name, rate=0.2)
        for token in others:
            await leave(http, token)
        assert (await status(http, last))["status"] == "ready"
        await enter(http, last)

    async def one_more() -> bool:
        return await early(http) == before + 1

    await eventually(one_more)
    assert await early(http) == before + 1
