"""The forms of DAEGI_REDIS_URL: one server, the nodes of a cluster, or sentinels."""

import re
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

_FORMS = (
    "a URL like redis://host:6379/0, redis+cluster://host:6379,host:6379 "
    "or redis+sentinel://host:26379,host:26379/name is needed (rediss for TLS)"
)

_DATABASE = re.compile(r"/?|/[0-9]{1,9}", re.ASCII)


class RedisUrl(NamedTuple):
    """The plain URLs of the servers to begin with; for sentinels also the name under which they know the master."""

    kind: Literal["server", "cluster", "sentinel"]
    servers: tuple[str, ...]
    service: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parses a URL. Raises ValueError without repeating the URL, which may hold a password."""
        scheme, _, rest = url.partition("://")
        transport, _, kind = scheme.partition("+")
        if transport not in {"redis", "rediss"} or kind not in {"", "cluster", "sentinel"}:
            raise ValueError(_FORMS)
        if not kind:
            return cls("server", (_checked(url),))
        where, _, path = rest.partition("/")
        user, at, hosts = where.rpartition("@")
        servers = tuple(_checked(f"{transport}://{user}{at}{host}") for host in hosts.split(","))
        if kind == "cluster":
            if path not in {"", "0"}:
                raise ValueError("a cluster has database 0 only: remove the path from its URL")
            return cls("cluster", servers)
        if not path or "/" in path:
            raise ValueError("redis+sentinel://host:26379,host:26379/name needs the master's name")
        return cls("sentinel", servers, path)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The original error may repeat a part of the password.
        raise ValueError(_FORMS) from None
    if not parts.hostname or port == 0 or not _DATABASE.fullmatch(parts.path):
        raise ValueError(_FORMS)
    if parts.query or parts.fragment:
        raise ValueError("it has no options: remove the ? or # and what follows, or write %3F or %23")
    return url
