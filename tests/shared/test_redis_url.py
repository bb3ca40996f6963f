"""The forms of DAEGI_REDIS_URL."""

import pytest

from shared.settings.redis_url import RedisUrl


@pytest.mark.parametrize(
    ("url", "kind", "servers", "service"),
    [
        ("redis://a:6379/3", "server", ("redis://a:6379/3",), ""),
        ("rediss://u:p@a", "server", ("rediss://u:p@a",), ""),
        ("redis+cluster://a:1,b:2", "cluster", ("redis://a:1", "redis://b:2"), ""),
        ("redis+cluster://a:1/", "cluster", ("redis://a:1",), ""),
        ("rediss+cluster://u:p%40@a:1,[::1]:2/0", "cluster", ("rediss://u:p%40@a:1", "rediss://u:p%40@[::1]:2"), ""),
        ("redis+sentinel://:p@a:1,b:2/lines", "sentinel", ("redis://:p@a:1", "redis://:p@b:2"), "lines"),
    ],
)
def test_a_url_names_its_servers(url: str, kind: str, servers: tuple[str, ...], service: str) -> None:
    assert RedisUrl.parse(url) == (kind, servers, service)
