"""Signed tokens: who stands where, provable without asking Redis."""

from binascii import b2a_base64
from hashlib import blake2b
from hmac import compare_digest

import msgspec

from shared.errors import InvalidTokenError

MAC_BYTES = 16
_MAX_LENGTH = 160
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class WaitingToken(msgspec.Struct, frozen=True, gc=False):
    """A place in an event's line; ticket in us, lease in ms (for a fresh join, when it joined)."""

    event_id: str
    ticket: int
    lease: int


class ReservationToken(msgspec.Struct, frozen=True, gc=False):
    """A right to come in; ticket in us, time of issue in ms."""

    event_id: str
    ticket: int
    issued: int


class Signer:
    """Mints and checks tokens: ``kind~event_id~numbers~mac``.

    `~` is in no event id and the kind is inside the MAC, so that no token passes for another. The first secret
    signs, all of them verify. Keyed blake2b: 1.0 us where HMAC-SHA256 takes 2.6 (measured).
    """

    def __init__(self, secrets: list[str]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("at least one token secret is needed, and none may be empty")
        # A key of blake2b has at most 64 bytes; a secret may be longer.
        keys = [blake2b(secret.encode(), digest_size=32, person=b"daegi-key").digest() for secret in secrets]
        self._keyed = [blake2b(key=key, digest_size=MAC_BYTES, person=b"daegi-token") for key in keys]

    def waiting(self, event_id: str, ticket: int, lease: int | None = None) -> str:
        """The token of a join (the same at every replay), or of an exact poll when a lease (ms) is given."""
        return self._sign("w", event_id, f"{ticket:d}" if lease is None else f"{ticket:d}~{lease:d}")

    def reservation(self, event_id: str, ticket: int, issued: int) -> str:
        """The token of a reservation issued at a time in ms."""
        return self._sign("r", event_id, f"{ticket:d}~{issued:d}")

    def verify_waiting(self, token: str) -> WaitingToken:
        """What a waiting token says; raises InvalidTokenError for anything that is not one of ours."""
        parts = self._verify(token)
        number = int(parts[2])
        if parts[0] != "w":
            raise InvalidTokenError
        return WaitingToken(parts[1], number, int(parts[3]) if len(parts) == 5 else number // 1000)

    def verify_reservation(self, token: str) -> ReservationToken:
        """What a reservation token says; raises InvalidTokenError for anything that is not one of ours."""
        parts = self._verify(token)
        if parts[0] != "r":
            raise InvalidTokenError
        return ReservationToken(parts[1], int(parts[2]), int(parts[3]))

    def _sign(self, kind: str, event_id: str, numbers: str) -> str:
        # What is signed is not looked at again: a ~ here would make the token pass for another event's.
        if "~" in event_id:
            raise ValueError("no event has a ~ in its name")
        body = f"{kind}~{event_id}~{numbers}"
        return f"{body}~{self._mac(self._keyed[0], body)}"

    def _verify(self, token: str) -> list[str]:
        if len(token) > _MAX_LENGTH or not token.isascii():
            raise InvalidTokenError
        body, _, mac = token.rpartition("~")
        for keyed in self._keyed:
            # The whole text is compared: what we would have written, and no other spelling of it.
            if compare_digest(self._mac(keyed, body), mac):
                return token.split("~")
        raise InvalidTokenError

    def _mac(self, keyed: "blake2b", body: str) -> str:
        mac = keyed.copy()
        mac.update(body.encode("ascii"))
        # urlsafe_b64encode does the same through two calls more.
        return b2a_base64(mac.digest(), newline=False).translate(_URL_SAFE)[:22].decode("ascii")
