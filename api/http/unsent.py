"""What clients have not taken yet of what was sent to them, as Linux knows it; elsewhere nothing is known.

Granian accepts whatever is sent on a stream, at once and without a limit, so that nobody could tell a client that
does not read; and when it is to end, it waits for such a client until it is killed itself.
"""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

_TABLES = Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")
_FILES = Path("/proc/self/fd")


class Peer(NamedTuple):
    """A client's address and port."""

    address: IPv4Address | IPv6Address
    port: int


class Unsent(NamedTuple):
    """A connection whose peer has not acknowledged all that was sent to it."""

    peer: Peer
    inode: str


def peer(address: str, port: int) -> Peer | None:
    """None if this is no address of a network."""
    try:
        return Peer(ip_address(address), port)
    except ValueError:
        return None


def unsent() -> list[Unsent]:
    """All of them in this network namespace. It reads a line for every connection: call it in a thread."""
    found: list[Unsent] = []
    for table in _TABLES:
        # There is none on another system, or where IPv6 is switched off.
        with suppress(OSError):
            found += _read(table)
    return found


def cut(connections: Collection[Unsent]) -> None:
    """Closes those that are this process's."""
    wanted = {f"socket:[{one.inode}]": one.peer for one in connections}
    if not wanted:
        return
    for file in _FILES.iterdir():
        # A file may be closed by now, and its number another one's.
        with suppress(OSError):
            if found := wanted.get(str(file.readlink())):
                with socket.socket(fileno=os.dup(int(file.name))) as connection:
                    if connection.getpeername()[1] == found.port:
                        connection.shutdown(socket.SHUT_RDWR)


def _read(table: Path) -> Iterator[Unsent]:
    with table.open() as lines:
        next(lines)
        for line in lines:
            # sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode
            fields = line.split(maxsplit=10)
            if not fields[4].startswith("00000000:"):
                yield Unsent(_peer(fields[2]), fields[9])


def _peer(text: str) -> Peer:
    address, _, port = text.partition(":")
    # Words of four bytes, each in the machine's own order.
    raw = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    return Peer(IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw), int(port, 16))
