"""Loads the Lua steps: a file of shared/line/lua, after the files of its lib/ that it and they include.

A library file only defines: locals that the files after it use. Its second line names those that it uses itself.
"""

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from shared.redis.script import Script

_INCLUDE = re.compile(r"^-- include: (.+)$", re.MULTILINE)

_NOT_WITH_MEMORY_FULL = frozenset({"enqueue"})
"""With memory full people can still poll, enter and leave, which frees some; they can't join."""


@cache
def load_script(name: str) -> Script:
    """Reads a step; raises FileNotFoundError if there is none of that name, ValueError for a wrong include."""
    return Script(name, assemble(name, files("shared.line.lua")), allow_oom=name not in _NOT_WITH_MEMORY_FULL)


def assemble(name: str, folder: Traversable) -> str:
    """The source of a step of a folder, after all that it includes, each once and after what it includes itself.

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
