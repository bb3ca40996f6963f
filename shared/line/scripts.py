"""Loads the Lua steps: a file of shared/line/lua, preceded by the files of lib/ that it includes, directly or not.

A library file only defines locals, which the files after it use. Its second line names the libraries that it uses.
"""

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from shared.redis.script import Script

_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)

_NOT_WITH_MEMORY_FULL = frozenset({"enqueue"})
"""When memory is full, people can still poll, enter and leave, which frees some memory; they can't join."""


@cache
def load_script(name: str) -> Script:
    """Reads a step; raises FileNotFoundError if there is no such step, ValueError for a wrong include."""
    return Script(name, assemble(name, files("shared.line.lua")), allow_oom=name not in _NOT_WITH_MEMORY_FULL)


def assemble(name: str, folder: Traversable) -> str:
    """The source of a step, preceded by everything that it includes: each library once, after its own includes.

    Raises FileNotFoundError if there is no such step, ValueError for an unknown include and for a cycle.
    """
    step = (folder / f"{name}.lua").read_text()
    sources: dict[str, str] = {}

    def include(source: str, path: tuple[str, ...]) -> None:
        for part in included_by(source):
            file = f"lib/{part}.lua"
            if file in path:
                raise ValueError(f"Lua files include each other: {' -> '.join((*path, file))}")
            if part not in sources:
                try:
                    library = (folder / "lib" / f"{part}.lua").read_text()
                except FileNotFoundError:
                    raise ValueError(f"{path[-1]} includes {file}, which does not exist") from None
                include(library, (*path, file))
                sources[part] = library

    include(step, (f"{name}.lua",))
    return "\n".join([*sources.values(), step])


def included_by(source: str) -> list[str]:
    """The libraries that a Lua file names on its include line."""
    line = _INCLUDE.search(source)
    return [part.strip() for part in line[1].split(",")] if line else []
