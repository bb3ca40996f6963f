"""Passes for sites that verify them by themselves: JWTs (RFC 7519), signed with ES256 (RFC 7518, 3.4) and nothing else.

They are handed out, never taken back in: no request of ours is let through by one.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from jwt.api_jws import PyJWS

_ALGORITHM = "ES256"
_COORDINATE_BYTES = 32


class PublicKey(msgspec.Struct, frozen=True):
    """A key to verify passes with, as RFC 7517 and RFC 7518, 6.2.1 write it; `kid` is its RFC 7638 thumbprint."""

    kid: str
    x: str
    y: str
    kty: str = "EC"
    crv: str = "P-256"
    alg: str = _ALGORITHM
    use: str = "sig"


class JwtSigner:
    """Signs passes for others. The first key signs, all of them are published, so that keys can be rotated.

    The claims follow from the session alone, and so does the signature (RFC 6979): whoever asks for it again is given
    the same pass. It takes 39 us (measured), once per admission.
    """

    def __init__(self, pems: Sequence[str], issuer: str) -> None:
        """Private keys in PEM, at least one. Raises ValueError as `read_keys` does."""
        keys = read_keys(pems)
        self.public_keys = tuple(_public(key) for key in keys)
        self._key, self._issuer = keys[0], issuer
        self._headers = {"kid": self.public_keys[0].kid}
        self._jws = PyJWS(algorithms=[])
        self._jws.register_algorithm(_ALGORITHM, _Deterministic(SHA256))

    def sign(self, event_id: str, ticket: int, *, since: int, until: int) -> str:
        """The pass of a session, from when it has had this length until it ends, in ms.

        `jti` is the session's: a site that lets each of them in once knows by it who comes again.
        """
        claims = {
            "iss": self._issuer,
            "aud": event_id,
            "sub": str(ticket),
            "iat": since // 1000,
            "nbf": since // 1000,
            "exp": until // 1000,
            "jti": f"{event_id}~{ticket}~{until}",
        }
        return self._jws.encode(msgspec.json.encode(claims), self._key, _ALGORITHM, self._headers)


def read_keys(pems: Sequence[str]) -> list[EllipticCurvePrivateKey]:
    """Private keys in PEM. Raises ValueError, not repeating the text, if one is none for ES256 or is there twice."""
    keys: list[EllipticCurvePrivateKey] = []
    for number, pem in enumerate(pems, 1):
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            # The original error may repeat a part of the key. TypeError: it is encrypted.
            raise ValueError(f"key {number} is no unencrypted private key in PEM") from None
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ValueError(f"key {number} is no EC key on the curve P-256")
        if any(key.private_numbers() == other.private_numbers() for other in keys):
            raise ValueError(f"key {number} is there twice")
        keys.append(key)
    return keys


class _Deterministic(ECAlgorithm):
    """ES256 without a random number: a bad source of them would give the private key away."""

    def sign(self, msg: bytes, key: EllipticCurvePrivateKey) -> bytes:
        signature = key.sign(msg, ECDSA(self.hash_alg(), deterministic_signing=True))
        return b"".join(part.to_bytes(_COORDINATE_BYTES) for part in decode_dss_signature(signature))


def _public(key: EllipticCurvePrivateKey) -> PublicKey:
    numbers = key.public_key().public_numbers()
    x, y = (_base64(value.to_bytes(_COORDINATE_BYTES)) for value in (numbers.x, numbers.y))
    # RFC 7638: the required members alone, in the order of their names, without blanks.
    canonical = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    return PublicKey(_base64(sha256(canonical.encode()).digest()), x, y)


def _base64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
