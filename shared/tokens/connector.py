"""The token that Queue-it's connectors (KnownUser V3) take as proof that somebody has been through the queue."""

import hmac
import re
from hashlib import sha256
from typing import Final

PARAMETER: Final = "queueittoken"
"""The query parameter that connectors read it from."""

VALID_SECONDS: Final = 120
"""How long it may be under way. The site's clock and ours may differ by as much."""

CONNECTOR_EVENT_ID = re.compile(r"[a-z0-9.-]{1,64}", re.ASCII)
"""Event ids that connectors keep; use it with fullmatch.

`_` and `~` separate the token's fields. A connector signs its cookie for the id in lower case and then looks for it as
it was written, so that nobody with an upper-case id is ever recognised again. The id becomes a part of that cookie's
name, where `:` must not be.
"""


class ConnectorTokens:
    """Signs tokens: `e_<event>~q_<uuid>~ts_<s>~ce_false~cv_<minutes>~rt_queue[~hip_<hex>]~h_<hex>`.

    Fields, order and hash are those of the public connectors (queueit/KnownUser.V3.Javascript and .PHP, both of 3.7,
    and @queue-it/connector-javascript 5.0.1): h is the HMAC-SHA256 of all before `~h_`, hip that of the visitor's
    address, both in lower-case hex. `ce_false` with a `cv` makes a connector's cookie last that long and no longer.
    """

    def __init__(self, secret: str) -> None:
        self._keyed = hmac.new(secret.encode(), digestmod=sha256)

    def sign(self, event_id: str, queue_id: str, *, valid_until: int, minutes: int, address: str | None) -> str:
        """A token good until `valid_until` (Unix s), for a cookie of some minutes, perhaps for one address only."""
        body = f"e_{event_id}~q_{queue_id}~ts_{valid_until:d}~ce_false~cv_{minutes:d}~rt_queue"
        if address is not None:
            body += f"~hip_{self._hash(address)}"
        return f"{body}~h_{self._hash(body)}"

    def _hash(self, text: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(text.encode())
        return keyed.hexdigest()
