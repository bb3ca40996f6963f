"""How often one client may join: a token bucket for each address."""

import time
from collections import OrderedDict
from collections.abc import Callable

from api.http.errors import HttpError
from api.http.request import Request
from api.queue.client_address import ClientAddress, parse_address

MAX_ADDRESSES = 65_536
"""Addresses remembered, 160 bytes each. The one longest silent is forgotten first, and starts again with a full
bucket: a flood of addresses gets nobody refused."""

_MINUTE = 60_000_000_000
_NETWORK_BYTES = 8


class JoinLimit:
    """Allows `per_minute` joins at once from one address, regained evenly over a minute; `clock` in ns.

    `header` is as ClientAddress has it.
    """

    def __init__(self, per_minute: int, header: str | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._price = _MINUTE // per_minute
        self._addresses = ClientAddress(header)
        self._clock = clock
        self._full_at: OrderedDict[bytes, int] = OrderedDict()

    def take(self, request: Request) -> None:
        """Counts a join; raises HttpError 429 if its address has none left."""
        address = self._addresses.of(request)
        if address is None:
            return
        address, now = address[:_NETWORK_BYTES], self._clock()
        full_at = max(now, self._full_at.get(address, now))
        excess = full_at + self._price - now - _MINUTE
        self._full_at[address] = full_at if excess > 0 else full_at + self._price
        self._full_at.move_to_end(address)
        if len(self._full_at) > MAX_ADDRESSES:
            self._full_at.popitem(last=False)
        if excess > 0:
            after = -(-excess // 1_000_000_000)
            raise HttpError(429, "RATE_LIMITED", "too many joins from this address", retry_after=after)


def network(text: str) -> bytes | None:
    """The IPv4 address, or the /64 of the IPv6 address (a client has all of it), in a text; None without either."""
    address = parse_address(text)
    return address and address[:_NETWORK_BYTES]
