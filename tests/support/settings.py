"""Settings that tests of several suites run processes with."""

from typing import Any

SECRET = "a secret that only tests sign with, long enough"
ADMIN_KEY = "an-admin-key-of-the-tests"
OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}
"""The headers of an operator."""

HEARTBEAT_TTL = 59.0
"""A heartbeat TTL in seconds. Up to this value there is a sweep every second, and an interruption is 5.9 s without one.
It is so long that nobody is ever silent for it unless a test backdates them."""

CLOSED: dict[str, Any] = {"admit_rate": 0, "admit_burst": 0}
"""Settings under which nobody is called: all stay in line."""
