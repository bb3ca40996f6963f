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
    """The ways out of the room. Own host: the pass cookie is enough, and the gate renews it.

    A target has neither. There people come with a JWT or a connector's token, or with both. These cannot be renewed, so
    their session has a fixed length.
    """

    def __init__(self, jwt_signer: JwtSigner | None, connector: Connector | None) -> None:
        self._jwt_signer, self._connector = jwt_signer, connector

    def fixes(self, visit: Visit) -> bool:
        """Whether this visit ends in a session of fixed length."""
        if not is_elsewhere(visit.next_url):
            return False
        return self._jwt_signer is not None or (self._connector is not None and self._connector.serves(visit))

    def url(self, request: Request, visit: Visit, token: PassToken) -> str:
        """The URL to which the holder of this pass goes; its session has got its length."""
        url = visit.next_url
        if not is_elsewhere(url):
            return url
        if self._jwt_signer:
            # As redeem.lua has it.
            since = min(time.time_ns() // 1_000_000, token.until - visit.site.session_ttl)
            jwt = self._jwt_signer.sign(token.event_id, token.ticket, since=since, until=token.until)
            url = with_parameter(url, _PARAMETER, jwt)
        if self._connector and self._connector.serves(visit):
            url = self._connector.with_token(request, visit, token, url)
        return url
