"""Ports for what tests start."""

import random

from shared.dev.redis_server import PORTS, is_free


def free_port() -> int:
    """A port nobody has; from the system's randomness, for pytest-randomly seeds the common one."""
    return next(port for port in random.SystemRandom().sample(PORTS, 200) if is_free(port))
