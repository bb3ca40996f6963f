"""What an event id looks like: the one pattern that settings, keys, tokens and the HTTP contract share."""

import re

EVENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
"""Use it with fullmatch."""
