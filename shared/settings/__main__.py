"""``python -m shared.settings``: every setting as a table, made from the settings class itself."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from shared.settings import Settings


class Row(NamedTuple):
    """One setting; its default is empty if there is none, and asterisks if it is secret."""

    name: str
    type: str
    default: str
    meaning: str


def rows() -> Iterator[Row]:
    """Every setting."""
    described = Settings.model_json_schema()["properties"]
    for name, field in Settings.model_fields.items():
        default = _text(field.get_default(call_default_factory=True))
        yield Row(f"DAEGI_{name.upper()}", _type(described[name]), default, field.description or "")


def _text(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case list():
            return ", ".join(map(str, default))
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def _type(schema: dict[str, Any]) -> str:
    for alternative in schema.get("anyOf", ()):
        if alternative["type"] != "null":
            return _type(alternative)
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema.get("writeOnly"):
        return "secret"
    kind: str = schema.get("format", schema["type"]).removesuffix("-path")
    if kind == "array":
        return f"JSON list of {_type(schema['items'])}s"
    low, high = (_number(schema.get(bound)) for bound in ("minimum", "maximum"))
    return f"{kind} {low} to {high}" if high else f"{kind} from {low}" if low else kind


def _number(bound: float | None) -> str:
    return "" if bound is None else f"{bound:,.10g}"


def _plain(table: Sequence[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)][:-1]
    for *cells, meaning in table:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), meaning])


def _markdown(table: Sequence[Row]) -> Iterator[str]:
    yield "| setting | type | default | meaning |"
    yield "|---|---|---|---|"
    for row in table:
        name, kind, default, meaning = (cell.replace("|", "\\|") for cell in row)
        yield f"| `{name}` | {kind} | {default and f'`{default}`'} | {meaning} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints it."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.settings",
        description="Prints every setting of Daegi: its variable in the environment, type, default and meaning.",
    )
    parser.add_argument("--markdown", action="store_true", help="as a table in Markdown")
    write = _markdown if parser.parse_args(arguments).markdown else _plain
    print("\n".join(write(list(rows()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
