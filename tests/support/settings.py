"""Settings that tests of several suites run processes with."""

from typing import Any

SECRET = "a secret that only tests sign with, long enough"
ADMIN_KEY = "an-admin-key-of-the-tests"
OPERATOR = {"Authorization": f"Bearer {ADMIN_KEY}"}
"""The headers of an operator."""

HEARTBEAT_TTL = 59.0
"""In seconds. Up to it sweeps come once a second, and it takes 5.9 s without one to be an interruption. It is so long
that only what a test dates back is ever silent for it."""

CLOSED: dict[str, Any] = {"admit_rate": 0, "admit_burst": 0}
"""Settings under which nobody is called: all stay in line."""
