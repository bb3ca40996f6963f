"""Ports for what tests start."""

import random

from shared.dev.redis_server import PORTS, is_free


def free_port() -> int:
    """A port that nobody uses, from the system's randomness: pytest-randomly seeds the shared generator."""
    return next(port for port in random.SystemRandom().sample(PORTS, 200) if is_free(port))
