"""The number of heartbeats that an ingress holds is bounded."""

import pytest

from api.serving.clock import RedisClock
from api.serving.worker_outbox import WorkerOutbox
from shared.jobs import Jobs
from shared.settings import Settings
from tests.conftest import MakeLine


async def test_beyond_the_bound_polls_are_exact_unless_redis_is_unavailable(
    make_line: MakeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.serving.worker_outbox.MAX_HEARTBEATS", 2)
    line = make_line()
    outbox = WorkerOutbox(line, Jobs(Settings()), RedisClock())
    monkeypatch.setattr(line, "is_away", lambda event_id: False)
    assert outbox.record_heartbeat("concert", 1)
    assert outbox.record_heartbeat("play", 1)
    assert not outbox.record_heartbeat("concert", 2)
    assert outbox.record_heartbeat("concert", 1), "it is held already"
    # Leases are honoured then, and nobody loses their place for what is not heard.
    monkeypatch.setattr(line, "is_away", lambda event_id: True)
    assert outbox.record_heartbeat("concert", 2)
