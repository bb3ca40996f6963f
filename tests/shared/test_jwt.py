"""Passes for others: which keys make them, what is published of a key, and what stands in a pass."""

import json
import re
import subprocess
import sys
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey

from shared.settings import Settings, SettingsError, load_settings
from shared.tokens.jwt import JwtSigner, read_keys
from tests.support.pass_keys import in_pem, new_key

SINCE, UNTIL = 1_795_489_214_900, 1_795_489_514_900
ISSUER = "https://queue.example"


def others() -> list[tuple[str, str]]:
    """What is no key for ES256, and how it is refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    forms: tuple[Any, ...] = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pem = in_pem(key)
    texts = [
        ("no unencrypted private key", ""),
        ("no unencrypted private key", "a secret"),
        ("no unencrypted private key", locked.decode()),
        ("no unencrypted private key", public.decode()),
        ("no unencrypted private key", pem[: len(pem) // 2]),
        ("no unencrypted private key", pem.replace(pem[60:70], "A" * 10)),
        ("no EC key", rsa.generate_private_key(65537, 2048).private_bytes(*forms).decode()),
        ("no EC key", ed25519.Ed25519PrivateKey.generate().private_bytes(*forms).decode()),
        *(("no EC key", new_key(curve)) for curve in (ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())),
    ]
    return [(text, why) for why, text in texts]


@pytest.mark.parametrize(("text", "why"), others())
def test_what_is_no_key_for_es256_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.setenv("DAEGI_PUBLIC_URL", ISSUER)
    monkeypatch.setenv("DAEGI_PASS_KEYS", json.dumps([new_key(), text]))
    with pytest.raises(SettingsError) as failure:
        load_settings()
    message = str(failure.value)
    assert message.startswith(f"DAEGI_PASS_KEYS: key 2 is {why}")
    assert "openssl genpkey" in message
    assert "\n" not in message
    for line in text.splitlines():
        assert line not in message


def test_nor_is_the_same_key_twice_in_two_spellings() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    openssl = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    assert len(read_keys([openssl, new_key()])) == 2
    with pytest.raises(ValueError, match="key 3 is there twice"):
        read_keys([in_pem(key), new_key(), openssl])


def test_a_list_that_is_made_as_the_refusal_says_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEGI_PUBLIC_URL", ISSUER)
    monkeypatch.setenv("DAEGI_PASS_KEYS", '["x"]')
    with pytest.raises(SettingsError) as failure:
        load_settings()
    command = str(failure.value).partition("make a list with one: ")[2]
    command = command.replace("python", sys.executable)
    made = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    monkeypatch.setenv("DAEGI_PASS_KEYS", made)
    settings = load_settings()
    signer = JwtSigner([key.get_secret_value() for key in settings.pass_keys], ISSUER)
    assert len(signer.public_keys) == 1


def test_a_published_key_is_public_and_named_by_its_thumbprint() -> None:
    pems = [new_key(), new_key()]
    for pem, key in zip(pems, JwtSigner(pems, ISSUER).public_keys, strict=True):
        theirs = ECKey.import_key(pem)
        assert key.kid == theirs.thumbprint()
        told = {"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y}
        assert told == {name: theirs.as_dict(private=False)[name] for name in told}
        assert (key.alg, key.use) == ("ES256", "sig")


def test_a_coordinate_that_begins_with_zeros_keeps_its_length() -> None:
    # RFC 7518, 6.2.1.2: 32 bytes. About one key in 128 has such a coordinate.
    number = next(n for n in range(1, 10_000) if _coordinate(n).bit_length() <= 248)
    pem = in_pem(ec.derive_private_key(number, ec.SECP256R1()))
    (key,) = JwtSigner([pem], ISSUER).public_keys
    assert len(key.x) == len(key.y) == 43
    assert key.kid == ECKey.import_key(pem).thumbprint()


def _coordinate(number: int) -> int:
    return ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers().x


def test_the_first_key_signs_and_its_pass_is_the_same_again() -> None:
    first, second = new_key(), new_key()
    signer = JwtSigner([first, second], ISSUER)
    token = signer.sign("checkout", 7, since=SINCE, until=UNTIL)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": signer.public_keys[0].kid, "typ": "JWT"}
    assert JwtSigner([first], ISSUER).sign("checkout", 7, since=SINCE, until=UNTIL) == token
    other = JwtSigner([second, first], ISSUER).sign("checkout", 7, since=SINCE, until=UNTIL)
    assert other.split(".")[1] == token.split(".")[1]
    assert jwt.get_unverified_header(other)["kid"] == signer.public_keys[1].kid


def test_what_it_says_follows_from_the_session_to_the_second_below() -> None:
    token = JwtSigner([new_key()], ISSUER).sign("shop:1", 1_795_489_214_696_517, since=SINCE, until=UNTIL)
    assert jwt.decode(token, options={"verify_signature": False}) == {
        "iss": ISSUER,
        "aud": "shop:1",
        "sub": "1795489214696517",
        "iat": SINCE // 1000,
        "nbf": SINCE // 1000,
        "exp": UNTIL // 1000,
        "jti": f"shop:1~1795489214696517~{UNTIL}",
    }
    assert re.fullmatch(r"[\w.-]+", token), "fit for a query"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "RS256"])
def test_it_knows_no_other_algorithm(algorithm: str) -> None:
    signer = JwtSigner([new_key()], ISSUER)
    with pytest.raises(NotImplementedError):
        signer._jws.encode(b"{}", signer._key, algorithm)


def test_keys_without_a_url_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEGI_PASS_KEYS", json.dumps([new_key()]))
    monkeypatch.setenv("DAEGI_PUBLIC_URL", "")
    with pytest.raises(SettingsError, match=r"^DAEGI_PUBLIC_URL: DAEGI_PASS_KEYS need it"):
        load_settings()
    monkeypatch.setenv("DAEGI_PUBLIC_URL", "http://[::1]:8000/daegi")
    assert load_settings().public_url == "http://[::1]:8000/daegi"


def test_by_default_there_are_none() -> None:
    assert (Settings().pass_keys, Settings().public_url) == ([], None)
