"""CORS: lets pages of other origins call the api from a browser."""

from collections.abc import Sequence

from api.http.request import Request
from api.http.response import JSON, Header, Response

_PREFLIGHT: tuple[Header, ...] = (
    *JSON,
    ("access-control-allow-methods", "GET, POST, PUT, DELETE"),
    ("access-control-allow-headers", "content-type, idempotency-key, x-request-id, authorization"),
    ("access-control-max-age", "600"),
)


class Cors:
    """Allows the given origins; ["*"] allows all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self.enabled = bool(origins)
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def headers(self, request: Request) -> tuple[Header, ...]:
        """The headers that a browser needs on every answer."""
        vary: tuple[Header, ...] = () if self._any else (("vary", "origin"),)
        values = request.header_values("origin")
        if not values or not (self._any or values[0] in self._origins):
            return vary
        allowed = "*" if self._any else values[0]
        return (
            ("access-control-allow-origin", allowed),
            ("access-control-expose-headers", "retry-after"),
            *vary,
        )

    def preflight(self) -> Response:
        """The answer to OPTIONS of any path that exists."""
        return Response(204, b"", _PREFLIGHT)
