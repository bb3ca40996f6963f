"""The public keys of passes for sites that verify them by themselves. Answered from memory, without Redis."""

from api.contract.schemas import KeySetResponse
from api.http.request import Request
from api.http.response import Response, json_response
from shared.tokens.jwt import PublicKey

_CACHED_SECONDS = 300
"""How long a verifier may keep them. Before it signs, a new key has to be published for at least as long."""


class KeySet:
    """The keys of this process, which answers are verified with."""

    def __init__(self, keys: tuple[PublicKey, ...]) -> None:
        whole = json_response(200, KeySetResponse(keys))
        headers = (("content-type", "application/json"), ("cache-control", f"public, max-age={_CACHED_SECONDS}"))
        self._answer = Response(200, whole.body, headers)

    async def jwks(self, request: Request) -> Response:
        """GET /.well-known/jwks.json"""
        return self._answer
