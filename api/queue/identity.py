"""Who sends a request: a user verified by the gateway, or a label, and the Idempotency-Key of a retry."""

from hashlib import blake2b

from api.contract.schemas import MAX_KEY, MAX_USER_ID, MIN_KEY
from api.http.errors import HttpError, invalid
from api.http.request import Request


class Identity:
    """`user_header` is the header in which a gateway names the verified user, None without such a gateway."""

    def __init__(self, user_header: str | None) -> None:
        self._user_header = user_header.lower() if user_header else None

    def identify(self, request: Request, label: str | None) -> bytes:
        """b'' for nobody, b'u' and a label, or b'v' and the user in the trusted header. Raises HttpError 400."""
        if self._user_header is None:
            return b"u" + label.encode() if label else b""
        verified = request.header_values(self._user_header)
        # One of them is the client's own, and nobody can tell which one the gateway set.
        if len(verified) > 1:
            raise invalid("the user header must be there once")
        # Raises 400 for a header that the server cannot read: its user must not be taken for an anonymous one.
        named = request.header(self._user_header)
        if named:
            user = named.encode("latin-1")
            if len(user) > MAX_USER_ID:
                raise invalid(f"the user header may have {MAX_USER_ID} bytes")
            if not _is_utf8(user):
                raise invalid("the user header must be UTF-8")
            return b"v" + user
        return b"u" + label.encode() if label else b""


def idempotency_key(request: Request) -> bytes:
    """The digest of the Idempotency-Key (16 bytes), b'' if there is none. Raises HttpError 400."""
    key = request.header("idempotency-key")
    if key is None:
        return b""
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise invalid(f"Idempotency-Key must have {MIN_KEY} to {MAX_KEY} characters")
    # RSGI cannot read other characters, and one process must not refuse a key that another one accepts.
    if not key.isascii():
        raise invalid("Idempotency-Key may have ASCII characters only")
    return blake2b(key.encode(), digest_size=16).digest()


def waiting_token(request: Request) -> str:
    """The query's `token`, else the bearer token, which proxies don't log. Raises HttpError 400 if there is neither."""
    query = request.query
    if query.startswith("token=") and "&" not in query and "%" not in query:
        token = query[6:]
    else:
        token = request.query_parameter("token") or request.bearer()
    if not token:
        message = "send the waiting_token as Authorization: Bearer, or as ?token= in the query"
        raise HttpError(400, "MISSING_TOKEN", message)
    return token


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
