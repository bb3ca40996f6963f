"""What must not be read in logs, error reports and printed settings, cut out of a text."""

import re

_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:@/]*:)\S*@", re.IGNORECASE)
"""Up to the last @: rather too much of a text than the end of a password that should have been quoted."""


def mask_url(text: str) -> str:
    """The text with the password of every URL in it masked."""
    return _URL_PASSWORD.sub(r"\1***@", text)
