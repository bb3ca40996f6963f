"""What an orchestrator and Prometheus ask. Answered from memory, never by Redis."""

from api.http import Request, Response, json_response
from api.pulse import Pulse
from shared.line import Line
from shared.metrics import CONTENT_TYPE, Metrics


class Operations:
    """The probes. A Redis outage takes no pod out of service: people should get our 503, not a balancer's."""

    def __init__(self, line: Line, pulse: Pulse, metrics: Metrics) -> None:
        self.draining = False
        self._metrics = metrics
        self._line = line
        self._pulse = pulse

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: 200 while the process runs its loop."""
        return json_response(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 503 until Redis has answered once, and while draining."""
        status = "draining" if self.draining else "ok" if self._pulse.ready else "starting"
        redis = "up" if self._pulse.ready and not self._line.is_away() else "away"
        return json_response(200 if status == "ok" else 503, {"status": status, "redis": redis})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: of all api processes on this port."""
        return 200, self._metrics.exposition(), ((b"content-type", CONTENT_TYPE),)
