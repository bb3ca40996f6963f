"""``python -m shared.acl``: the rights that Daegi's Redis user needs, and no others."""

import argparse
import re
import sys
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import unquote, urlsplit

from shared.jobs import queue_name
from shared.line.keys import Keys
from shared.settings import Settings, SettingsError, load_settings
from shared.settings.redis_url import RedisUrl

LINE = (
    *("client|setname", "select", "info", "evalsha", "script|load", "wait"),
    *("get", "set", "exists", "unlink", "rename", "time"),
    *("hdel", "hget", "hincrby", "hlen", "hmget", "hscan", "hset"),
    *("xadd", "xdel", "xinfo|stream", "xlen", "xrange", "xrevrange", "xsetid"),
    *("zadd", "zcard", "zcount", "zmscore", "zrange", "zrangebyscore", "zrank", "zrem", "zscore"),
)
"""Commands on the Redis with the lines, including those that scripts call: Redis checks rights for them, too."""

CLUSTER = ("cluster|slots",)
"""Further commands on each node of a cluster."""

JOBS = (
    *("select", "watch", "unwatch", "multi", "exec", "ping", "info", "dbsize"),
    *("get", "exists", "del", "incrby", "expire", "pexpire", "psetex"),
    *("zadd", "zcard", "zcount", "zrangebyscore", "zrem", "zremrangebyscore", "zscore"),
)
"""Commands that arq uses on the Redis with the job queue."""

_ARQ_KEYS = ("arq:job:*", "arq:in-progress:*", "arq:result:*", "arq:retry:*", "arq:abort")
"""The same for every tenant."""


def set_user(settings: Settings, *, jobs: bool = False) -> str:
    """The ACL SETUSER command for the Redis with the lines, or for that with the job queue; for both if they are one.

    It holds the SHA-256 of the password. Raises ValueError if the URL names no user and password.
    """
    url = urlsplit(settings.jobs_url if jobs else settings.lines_url)
    if not url.username or not url.password:
        variable = "DAEGI_JOBS_REDIS_URL" if jobs and settings.jobs_redis_url else "DAEGI_REDIS_URL"
        raise ValueError(f"{variable}: name a user and password in it, like redis://daegi:password@host:6379/0")
    one_server = urlsplit(settings.jobs_url).netloc == urlsplit(settings.lines_url).netloc
    commands: list[str] = []
    patterns: list[str] = []
    if not jobs or one_server:
        keys = Keys(_escape_glob(settings.key_prefix))
        commands += LINE
        patterns += [keys.events, keys.pulse, keys.sweep, *keys.event("*")]
        if RedisUrl.parse(settings.lines_url).kind == "cluster":
            commands += CLUSTER
            patterns.append(f"{keys.prefix}probe:*")
    if jobs or one_server:
        commands += JOBS
        queue = _escape_glob(queue_name(settings))
        patterns += [queue, f"{queue}:health:*", *_ARQ_KEYS]
    rules = [*(f"~{pattern}" for pattern in patterns), *(f"+{command}" for command in sorted(set(commands)))]
    digest = sha256(unquote(url.password).encode()).hexdigest()
    # On Redis 6.2 a new user may use every channel.
    return " ".join(["ACL SETUSER", unquote(url.username), "reset", "on", f"#{digest}", "resetchannels", *rules])


def _escape_glob(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the command for the settings in the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.acl",
        description="Prints the ACL SETUSER command that makes the user of DAEGI_REDIS_URL. An administrator of that "
        "Redis has to run it: python -m shared.acl | redis-cli",
        epilog='With "user" in place of "ACL SETUSER" it is a line of an ACL file.',
    )
    parser.add_argument("--jobs", action="store_true", help="for the Redis of DAEGI_JOBS_REDIS_URL")
    jobs: bool = parser.parse_args(arguments).jobs
    try:
        print(set_user(load_settings(), jobs=jobs))
    except (SettingsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
