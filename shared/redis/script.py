"""A Lua script, which Redis knows by the SHA-1 of its source: old and new code can run side by side in a rollout."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from typing import Final, Self

_ALLOW_OOM: Final = "#!lua flags=allow-oom\n"


@dataclass(frozen=True)
class Script:
    """One script. `allow_oom`: Redis 7 and later runs it even when memory is full."""

    name: str
    source: str
    allow_oom: bool = False

    @cached_property
    def sha(self) -> str:
        """The name that EVALSHA calls it by."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    @cached_property
    def flagged(self) -> Self:
        """The script with its flags in front, which Redis 6.2 does not know; the script itself if it has none."""
        return type(self)(self.name, _ALLOW_OOM + self.source) if self.allow_oom else self
