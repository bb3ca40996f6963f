"""Where somebody goes who was let in, and what they bring along to a site without our gate."""

import time

from api.room.visits import Visit
from api.serving.next_url import is_elsewhere, with_parameter
from shared.tokens.jwt import JwtSigner
from shared.tokens.signer import PassToken

_PARAMETER = "daegi_pass"


class Exits:
    """The ways out of the room.

    On its own host the pass cookie is enough, and the gate renews it. To a target people bring a JWT, which nobody can
    renew: their session has a fixed length.
    """

    def __init__(self, jwt_signer: JwtSigner | None) -> None:
        self._jwt_signer = jwt_signer

    def fixes(self, visit: Visit) -> bool:
        """Whether this visit ends in a session of fixed length."""
        return self._jwt_signer is not None and is_elsewhere(visit.next_url)

    def url(self, visit: Visit, token: PassToken) -> str:
        """Where the holder of this pass goes. If its session has a fixed length, it was given that before."""
        if self._jwt_signer is None or not is_elsewhere(visit.next_url):
            return visit.next_url
        # When the session was given its length, as redeem.lua has it. The TTL may have become shorter since.
        since = min(time.time_ns() // 1_000_000, token.until - visit.site.session_ttl)
        jwt = self._jwt_signer.sign(token.event_id, token.ticket, since=since, until=token.until)
        return with_parameter(visit.next_url, _PARAMETER, jwt)
