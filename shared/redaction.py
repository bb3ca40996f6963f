"""Removes secrets from text for logs, error reports and printed settings."""

import re
from typing import Any

from shared.event_id import EVENT_ID

_TOKEN = re.compile(
    rf"\b([prw])(?:~|%7e){EVENT_ID.pattern}(?:~|%7e)[0-9]+(?:~|%7e)[a-z0-9_~%-]+",
    re.IGNORECASE,
)
_JWT = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]+", re.ASCII)
_TICKET_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
"""As Signer.ticket_uuid() makes them: whoever has one can end its session."""

_QUERY = re.compile(r"([?&](?:queueit)?token=)[^&\s\"']+")
"""Everything after token= or queueittoken=: a broken token may not match _TOKEN and still reveal most of a real one."""

_CREDENTIALS = re.compile(r"\b(bearer|basic)(\s+)[^\s\"',;)]+", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:@/]*:)\S*@", re.IGNORECASE)
"""Up to the last @: an unquoted password may hold one, and it is better to remove too much than too little."""

_SECRET_NAMES = frozenset({"authorization", "cookie", "set-cookie", "idempotency-key", "password", "token", "user_id"})
_GONE = "[redacted]"


def redact(text: str) -> str:
    """The text with every token cut down to its kind, and without the tokens of queries, credentials and passwords."""
    text = _TICKET_UUID.sub(_GONE, text)
    text = _JWT.sub(_GONE, _TOKEN.sub(rf"\1~{_GONE}", _QUERY.sub(rf"\1{_GONE}", text)))
    return mask_url(_CREDENTIALS.sub(rf"\1\2{_GONE}", text))


def redact_all(value: Any) -> Any:
    """The same for every text in a structure; a value that JSON does not know becomes its redacted repr()."""
    match value:
        case str():
            return redact(value)
        case None | bool() | int() | float():
            return value
        case dict():
            return {
                name: _GONE if name.lower() in _SECRET_NAMES else redact_all(inner)
                for name, inner in ((redact(str(name)), inner) for name, inner in value.items())
            }
        case list() | tuple():
            return [redact_all(inner) for inner in value]
        case _:
            return redact(repr(value))


def mask_url(text: str) -> str:
    """The text with the password of every URL in it masked."""
    return _URL_PASSWORD.sub(r"\1***@", text)
