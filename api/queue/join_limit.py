"""How often one client may join: a token bucket for each address."""

import socket
import time
from collections import OrderedDict
from collections.abc import Callable

from api.http.errors import HttpError
from api.http.request import Request

MAX_ADDRESSES = 65_536
"""Addresses remembered, 160 bytes each. The one longest silent is forgotten first, and starts again with a full
bucket: a flood of addresses gets nobody refused."""

_MINUTE = 60_000_000_000
_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


class JoinLimit:
    """Allows `per_minute` joins at once from one address, regained evenly over a minute; `clock` in ns.

    The address comes from `header` if a trusted proxy sets one, else it is the connection's peer.
    """

    def __init__(self, per_minute: int, header: str | None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._price = _MINUTE // per_minute
        self._header = header.lower() if header else None
        self._clock = clock
        self._full_at: OrderedDict[bytes, int] = OrderedDict()

    def take(self, request: Request) -> None:
        """Counts a join; raises HttpError 429 if its address has none left."""
        address = self._address(request)
        if address is None:
            return
        now = self._clock()
        full_at = max(now, self._full_at.get(address, now))
        excess = full_at + self._price - now - _MINUTE
        self._full_at[address] = full_at if excess > 0 else full_at + self._price
        self._full_at.move_to_end(address)
        if len(self._full_at) > MAX_ADDRESSES:
            self._full_at.popitem(last=False)
        if excess > 0:
            after = -(-excess // 1_000_000_000)
            raise HttpError(429, "RATE_LIMITED", "too many joins from this address", retry_after=after)

    def _address(self, request: Request) -> bytes | None:
        """The address to count; None if there is none: on a Unix socket without the header."""
        if self._header:
            named = request.header_values(self._header)
            # The client may have written everything before the last entry.
            last = named[-1].rpartition(",")[2] if named else ""
            if address := network(last):
                return address
        return network(request.peer) if request.peer else None


def network(text: str) -> bytes | None:
    """The IPv4 address, or the /64 of the IPv6 address (a client has all of it), in a text; None if there is neither.

    A port may follow the address.
    """
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_IPV4_IN_IPV6) else packed[:8]
