"""What depends on the version of the redis-server that tests start."""

from functools import cache

from shared.dev.redis_server import find_redis_server
from shared.line.scripts import load_script
from shared.redis.script import Script


@cache
def redis_major() -> int:
    """The major version of the redis-server that tests start."""
    return int(find_redis_server().version.partition(".")[0])


def script_in_force(name: str) -> Script:
    """A script as that server is given it: Redis 7 knows flags, and one with flags has another SHA-1."""
    script = load_script(name)
    return script.flagged if redis_major() >= 7 else script
