"""What was asked and what was answered, as a table."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One query or check: its kind, its name, the answer, and the verdict."""

    kind: str
    name: str
    value: str
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether the answer is as it should be."""
        return self.verdict == "ok"


def table(rows: Sequence[Row]) -> str:
    """Kind, name, value and verdict, in columns."""
    lines = [Row("what", "name", "value", "verdict"), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        f"{line.kind:<{widths[0]}}  {line.name:<{widths[1]}}  {line.value:>{widths[2]}}  {line.verdict}"
        for line in lines
    )
