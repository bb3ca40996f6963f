"""What orchestrators, Prometheus and readers ask for. Answered from memory, never by Redis."""

from typing import Literal

from api.contract import openapi
from api.contract import reference_page as docs
from api.contract.schemas import Health, Readiness
from api.http.core import Request, Response, json_response
from api.serving.pulse import Pulse
from shared.line.line import Line
from shared.telemetry.metrics import CONTENT_TYPE, Metrics

_PAGE_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)


class Operations:
    """The probes, metrics and descriptions.

    A Redis outage takes no pod out of service: people should get our 503, not a balancer's.
    """

    def __init__(self, line: Line, pulse: Pulse, metrics: Metrics) -> None:
        self.draining = False
        self._metrics = metrics
        self._line = line
        self._pulse = pulse
        # Made before anybody has to wait for it: it takes some 10 ms.
        self._document = openapi.document()
        self._page = docs.page()

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
        return 200, self._metrics.exposition(), ((b"content-type", CONTENT_TYPE),)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: the api's description."""
        return 200, self._document, ()

    async def docs(self, request: Request) -> Response:
        """GET /docs: the same, to be read."""
        return 200, self._page, _PAGE_HEADERS
