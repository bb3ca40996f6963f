"""Finds the handler for a method and a path."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from api.http.errors import HttpError
from api.http.request import Request
from api.http.response import AnyResponse, Response

Handler = Callable[[Request], Awaitable[AnyResponse]]

OTHER = "other"
"""The endpoint label of every unknown path: clients must not be able to create metric labels."""

_PARAMETER = re.compile(r"\\{(\w+)(\\\*)?\\}")


ANY = "*"
"""The method of a route that takes all of them."""


class Route(NamedTuple):
    """A handler for a method of a path. A part of the path may be a parameter, `/events/{event_id}`, and its end may
    be one that takes everything, `/files/{name*}`.
    """

    method: str
    path: str
    handler: Handler


class _Endpoint(NamedTuple):
    path: str
    methods: dict[str, Handler]


class Router:
    """Finds handlers. HEAD is answered wherever GET is: the servers omit the body."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._plain: dict[str, _Endpoint] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], _Endpoint]] = {}
        for method, path, handler in routes:
            endpoint = self._endpoint(path)
            endpoint.methods[method] = handler
            if method == "GET":
                endpoint.methods["HEAD"] = handler

    def find(self, request: Request) -> tuple[str, Handler]:
        """The endpoint (the path as the route spells it) and its handler; sets the request's parameters.

        If there is no such operation, the handler raises HttpError 404 or 405.
        """
        endpoint = self._plain.get(request.path) or self._match(request)
        if endpoint is None:
            return OTHER, _not_found
        handler = endpoint.methods.get(request.method) or endpoint.methods.get(ANY)
        return endpoint.path, handler or _not_with_this_method(endpoint.methods)

    def _match(self, request: Request) -> _Endpoint | None:
        for pattern, endpoint in self._patterns.values():
            if found := pattern.fullmatch(request.path):
                request.parameters = found.groupdict()
                return endpoint
        return None

    def _endpoint(self, path: str) -> _Endpoint:
        if "{" not in path:
            return self._plain.setdefault(path, _Endpoint(path, {}))
        pattern = re.compile(
            _PARAMETER.sub(lambda it: f"(?P<{it[1]}>{'.*' if it[2] else '[^/]*'})", re.escape(path)), re.DOTALL
        )
        return self._patterns.setdefault(path, (pattern, _Endpoint(path, {})))[1]


async def _not_found(request: Request) -> Response:
    raise HttpError(404, "NOT_FOUND", "there is nothing at this path")


def _not_with_this_method(methods: Mapping[str, Handler]) -> Handler:
    async def refuse(request: Request) -> Response:
        raise HttpError(
            405, "METHOD_NOT_ALLOWED", "not with this method", headers=(("allow", ", ".join(sorted(methods))),)
        )

    return refuse
