"""Serves the description of the api: as OpenAPI for programs, as a page for people."""

from api.contract import openapi, reference_page
from api.http.request import Request
from api.http.response import Response

_PAGE_HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
)


class Reference:
    """Both are built once, at the start, so that no request waits for the 10 ms that this takes."""

    def __init__(self) -> None:
        self._document = Response(200, openapi.document())
        self._page = Response(200, reference_page.page(), _PAGE_HEADERS)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json"""
        return self._document

    async def docs(self, request: Request) -> Response:
        """GET /docs"""
        return self._page
