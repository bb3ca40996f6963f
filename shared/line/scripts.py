"""Loads the Lua steps: a file of shared/line/lua, after the files of its lib/ that it includes."""

import re
from functools import cache
from importlib.resources import files

from shared.redis.script import Script

_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)

_NOT_WITH_MEMORY_FULL = frozenset({"enqueue"})
"""With memory full people can still poll, enter and leave, which frees some; they can't join."""


@cache
def load_script(name: str) -> Script:
    """Reads a step; raises FileNotFoundError if there is none of that name."""
    folder = files("shared.line.lua")
    step = (folder / f"{name}.lua").read_text()
    found = _INCLUDE.search(step)
    included = [part.strip() for part in found[1].split(",")] if found else []
    source = "\n".join([*((folder / "lib" / f"{part}.lua").read_text() for part in included), step])
    return Script(name, source, allow_oom=name not in _NOT_WITH_MEMORY_FULL)
