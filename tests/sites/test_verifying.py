"""What a site that is written as the recipes say takes for a pass, and what it does not."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc import jwt as jose_jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from shared.tokens.jwt import JwtSigner
from tests.sites.conftest import SignedApi, Verify, in_node, in_python
from tests.support.pass_keys import new_key

TTL_S, TICKET = 120, 1_795_489_214_696_517


async def in_joserfc(url: str, event: str) -> Verify:
    """A site that has a library of a third family."""
    async with httpx.AsyncClient() as http:
        published = KeySet.import_key_set((await http.get(f"{url}/.well-known/jwks.json")).json())
    wanted = jose_jwt.JWTClaimsRegistry(
        leeway=2,
        iss={"essential": True, "value": url},
        aud={"essential": True, "value": event},
        sub={"essential": True},
        nbf={"essential": True},
        exp={"essential": True},
    )

    async def verify(token: str) -> dict[str, Any] | None:
        try:
            told = jose_jwt.decode(token, published, algorithms=["ES256"])
            wanted.validate(told.claims)
        except (JoseError, ValueError):
            return None
        return dict(told.claims)

    return verify


@pytest.fixture(params=["pyjwt", "jose", "joserfc"])
async def verify(request: pytest.FixtureRequest, site_api: SignedApi, event: str) -> Verify:
    """A verifier of passes for this event."""
    if request.param == "joserfc":
        return await in_joserfc(site_api.url, event)
    return (in_python if request.param == "pyjwt" else in_node)(site_api.url, event)


class Forger:
    """Makes whatever looks like a pass for this event; it has the keys, and uses them otherwise than we do."""

    def __init__(self, keys: list[str], issuer: str, event: str) -> None:
        self.keys, self.issuer, self.event = keys, issuer, event
        self.signer = JwtSigner(keys, issuer)
        self.kid, self.other_kid = (key.kid for key in self.signer.public_keys)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        said = {"iss": self.issuer, "aud": self.event, "sub": "7", "iat": now, "nbf": now, "exp": now + TTL_S}
        return {name: value for name, value in (said | changes).items() if value is not None}

    def sign(self, key: str | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), key or self.keys[0], "ES256", {"kid": self.kid} | (header or {}))

    def ours(self, since: float = 0, event: str | None = None) -> str:
        """As our processes sign, of a session that begins in so many seconds."""
        begins = round((time.time() + since) * 1000)
        return self.signer.sign(event or self.event, TICKET, since=begins, until=begins + TTL_S * 1000)

    def unsigned(self, algorithm: str, **header: Any) -> str:
        return f"{_part({'alg': algorithm, 'typ': 'JWT', **header})}.{_part(self.claims())}."

    def by_secret(self, secret: bytes) -> str:
        """HS256 with something public as its secret; libraries refuse to make it."""
        signed = self.unsigned("HS256", kid=self.kid).removesuffix(".")
        return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), 'sha256'))}"

    @property
    def public_pem(self) -> bytes:
        public = load_pem_private_key(self.keys[0].encode(), None).public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_jwk(self) -> dict[str, Any]:
        return dict(ECKey.import_key(self.keys[0]).as_dict(private=False))


def _part(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _tampered(token: str) -> str:
    head, _, signature = token.split(".")
    said = jwt.decode(token, options={"verify_signature": False})
    return f"{head}.{_part(said | {'exp': said['exp'] + 3600})}.{signature}"


def _with_own_key(forger: Forger) -> str:
    own = new_key()
    public = dict(ECKey.import_key(own).as_dict(private=False))
    return forger.sign(own, {"jwk": public, "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/"})


def _es384(forger: Forger) -> str:
    return jwt.encode(forger.claims(), new_key(ec.SECP384R1()), "ES384", {"kid": forger.kid})


def _der(forger: Forger) -> str:
    """The signature as X.509 writes it, not as RFC 7518 does."""
    head, _, signature = forger.ours().rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    parts = (b"\x02\x21\x00" + half for half in (raw[:32], raw[32:]))
    return f"{head}.{_base64(b'0F' + b''.join(parts))}"


GOOD: dict[str, Callable[[Forger], str]] = {
    "ours": lambda it: it.ours(),
    "of the other key that is published": lambda it: it.sign(it.keys[1], {"kid": it.other_kid}),
    "a second before it ends": lambda it: it.ours(1.5 - TTL_S),
    "of a clock that is a second ahead": lambda it: it.ours(1),
}
BAD: dict[str, Callable[[Forger], str]] = {
    "none": lambda it: it.unsigned("none"),
    "none, of a key": lambda it: it.unsigned("none", kid=it.kid),
    "None": lambda it: it.unsigned("None", kid=it.kid),
    "no signature": lambda it: it.unsigned("ES256", kid=it.kid),
    "HS256 by the public key in PEM": lambda it: it.by_secret(it.public_pem),
    "HS256 by the published key": lambda it: it.by_secret(json.dumps(it.public_jwk).encode()),
    "HS256 by a coordinate": lambda it: it.by_secret(it.public_jwk["x"].encode()),
    "ES384": _es384,
    "another event's": lambda it: it.ours(event="another"),
    "several events'": lambda it: it.sign(aud=["another", "others"]),
    "another issuer's": lambda it: it.sign(iss="https://evil.example"),
    "an issuer that begins like ours": lambda it: it.sign(iss=f"{it.issuer}.evil.example"),
    "expired": lambda it: it.ours(-TTL_S - 3),
    "not yet good": lambda it: it.ours(60),
    "without an end": lambda it: it.sign(exp=None),
    "without a beginning": lambda it: it.sign(nbf=None),
    "without a ticket": lambda it: it.sign(sub=None),
    "without an event": lambda it: it.sign(aud=None),
    "without an issuer": lambda it: it.sign(iss=None),
    "of a key that is not published": lambda it: it.sign(new_key(), {"kid": "unknown"}),
    "of another's key under our key's name": lambda it: it.sign(new_key()),
    "of our key under the other's name": lambda it: it.sign(None, {"kid": it.other_kid}),
    "with a key of its own in it": _with_own_key,
    "tampered": lambda it: _tampered(it.ours()),
    "another signature": lambda it: it.ours().rpartition(".")[0] + "." + it.ours(1).rpartition(".")[2],
    "a signature in another form": _der,
    "cut": lambda it: it.ours()[:-1],
    "two thirds": lambda it: it.ours().rpartition(".")[0],
    "nothing": lambda _: "",
    "a pass of ours": lambda _: "p~concert~1~2~3~AAAAAAAAAAAAAAAAAAAAAA",
}


@pytest.fixture
def forger(keys: list[str], site_api: SignedApi, event: str) -> Forger:
    return Forger(keys, site_api.url, event)


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_a_site_takes(verify: Verify, forger: Forger, make: Callable[[Forger], str]) -> None:
    told = await verify(make(forger))
    assert told
    assert told["aud"] == forger.event


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
async def test_a_site_does_not_take(verify: Verify, forger: Forger, make: Callable[[Forger], str]) -> None:
    assert await verify(make(forger)) is None


async def test_the_keys_are_there_for_get_and_head_may_be_kept_and_tell_nothing_private(
    site_api: SignedApi, keys: list[str]
) -> None:
    async with httpx.AsyncClient(base_url=site_api.url) as http:
        whole = await http.get("/.well-known/jwks.json")
        head = await http.head("/.well-known/jwks.json")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/json")
    assert whole.headers["cache-control"] == "public, max-age=300"
    assert (head.status_code, head.content, head.headers["cache-control"]) == (200, b"", "public, max-age=300")
    published = whole.json()["keys"]
    assert [key["kid"] for key in published] == [ECKey.import_key(key).thumbprint() for key in keys]
    for key in published:
        assert key.keys() == {"kid", "x", "y", "kty", "crv", "alg", "use"}
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
