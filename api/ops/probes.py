"""Endpoints for orchestrators, Prometheus and verifiers. They are answered from memory, without Redis."""

from typing import Literal

from api.contract.schemas import Health, Readiness
from api.http.request import Request
from api.http.response import Response, json_response
from api.serving.pulse import Pulse
from shared.line.line import Line
from shared.telemetry.metrics import CONTENT_TYPE, Metrics


class Probes:
    """Liveness, readiness and metrics.

    A Redis outage does not make a pod unready: people should get our 503, not a balancer's.
    """

    def __init__(self, line: Line, pulse: Pulse, metrics: Metrics) -> None:
        self.draining = False
        self._line, self._pulse, self._metrics = line, pulse, metrics

    async def healthz(self, request: Request) -> Response:
        """GET /healthz: 200 while the process runs its loop."""
        return json_response(200, Health("ok"))

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 503 until Redis has answered once, and while draining."""
        status: Literal["ok", "starting", "draining"] = "ok" if self._pulse.ready else "starting"
        redis: Literal["up", "away"] = "up" if self._pulse.ready and not self._line.is_away() else "away"
        if self.draining:
            status = "draining"
        return json_response(200 if status == "ok" else 503, Readiness(status, redis))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: of all api processes on this port."""
        headers = (("content-type", CONTENT_TYPE), ("cache-control", "no-store"))
        return Response(200, self._metrics.exposition(), headers)
