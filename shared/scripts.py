"""Loads the Lua steps: a file of shared/lua, after the files of shared/lua/lib that it says it includes."""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A step's source and the SHA-1 under which Redis knows it: old and new code overlap safely in a rollout."""

    name: str
    source: str
    sha: str


_FLAGS = "#!lua flags=allow-oom\n"
"""With memory full people can still poll, enter and leave, which frees some; they can't join. Redis 7 and later."""


@cache
def load_script(name: str, *, flagged: bool = False) -> Script:
    """Reads a step, with flags for Redis 7; raises FileNotFoundError if there is none of that name."""
    folder = files("shared.lua")
    step = (folder / f"{name}.lua").read_text()
    found = _INCLUDE.search(step)
    included = [part.strip() for part in found[1].split(",")] if found else []
    source = "\n".join([*((folder / "lib" / f"{part}.lua").read_text() for part in included), step])
    if flagged and name != "enqueue":
        source = _FLAGS + source
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())
