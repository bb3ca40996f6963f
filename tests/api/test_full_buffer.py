"""Heartbeats that an ingress holds are bounded in number."""

import pytest

from api.serving.clock import RedisClock
from api.serving.worker_outbox import Errands
from shared.jobs import Jobs
from shared.settings import Settings
from tests.conftest import MakeLine


async def test_whom_it_cannot_hold_any_more_is_polled_exactly_unless_redis_is_away(
    make_line: MakeLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.serving.worker_outbox.MAX_HEARTBEATS", 2)
    line = make_line()
    errands = Errands(line, Jobs(Settings()), RedisClock())
    monkeypatch.setattr(line, "is_away", lambda event_id: False)
    assert errands.hear("concert", 1)
    assert errands.hear("play", 1)
    assert not errands.hear("concert", 2)
    assert errands.hear("concert", 1), "it is held already"
    # Leases are honoured then, and nobody loses their place for what is not heard.
    monkeypatch.setattr(line, "is_away", lambda event_id: True)
    assert errands.hear("concert", 2)
