"""Keys of passes for sites without a gate."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def new_key(curve: ec.EllipticCurve | None = None) -> str:
    """A private key in PEM, on P-256 unless told otherwise."""
    return in_pem(ec.generate_private_key(curve or ec.SECP256R1()))


def in_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """This key as OpenSSL writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
