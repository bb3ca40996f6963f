"""Where somebody goes who was let in, and what they bring along to a site without our gate."""

import time

from api.http.request import Request
from api.room.connector import Connector
from api.room.visits import Visit
from api.serving.next_url import is_elsewhere, with_parameter
from shared.tokens.jwt import JwtSigner
from shared.tokens.signer import PassToken

_PARAMETER = "daegi_pass"


class Exits:
    """The ways out of the room.

    On its own host the pass cookie is enough, and the gate renews it. To a target people bring a JWT or a connector's
    token, or both, which nobody can renew: their session has a fixed length.
    """

    def __init__(self, jwt_signer: JwtSigner | None, connector: Connector | None) -> None:
        self._jwt_signer, self._connector = jwt_signer, connector

    def fixes(self, visit: Visit) -> bool:
        """Whether this visit ends in a session of fixed length."""
        if not is_elsewhere(visit.next_url):
            return False
        return self._jwt_signer is not None or (self._connector is not None and self._connector.serves(visit))

    def url(self, request: Request, visit: Visit, token: PassToken) -> str:
        """Where the holder of this pass goes. If its session has a fixed length, it was given that before."""
        url = visit.next_url
        if not is_elsewhere(url):
            return url
        if self._jwt_signer:
            # When the session was given its length, as redeem.lua has it. The TTL may have become shorter since.
            since = min(time.time_ns() // 1_000_000, token.until - visit.site.session_ttl)
            jwt = self._jwt_signer.sign(token.event_id, token.ticket, since=since, until=token.until)
            url = with_parameter(url, _PARAMETER, jwt)
        if self._connector and self._connector.serves(visit):
            url = self._connector.with_token(request, visit, token, url)
        return url
