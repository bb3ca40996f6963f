"""Which address a client has, behind a proxy or not."""

import socket

from api.http.request import Request

_IPV4_IN_IPV6 = bytes(10) + b"\xff\xff"


class ClientAddress:
    """The address comes from `header` if a trusted proxy sets one, else it is the connection's peer."""

    def __init__(self, header: str | None) -> None:
        self._header = header.lower() if header else None

    def of(self, request: Request) -> bytes | None:
        """The client's IPv4 (4 bytes) or IPv6 address (16 bytes).

        None if there is none: on a Unix socket without the header.
        """
        if self._header:
            named = request.header_values(self._header)
            # The client may have written everything before the last entry.
            last = named[-1].rpartition(",")[2] if named else ""
            if address := parse_address(last):
                return address
        return parse_address(request.peer) if request.peer else None


def parse_address(text: str) -> bytes | None:
    """The address in a text, perhaps with a port behind it; None if there is none.

    An IPv4 address written as one of IPv6 is that of IPv4.
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
    return packed[12:] if packed.startswith(_IPV4_IN_IPV6) else packed


def written(address: bytes) -> str:
    """An address as text, in the shortest form (RFC 5952)."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
