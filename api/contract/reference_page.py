"""The description of the api as an HTML page, made from the same data as /openapi.json."""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

from api.contract.openapi import Json, describe

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
code { font: 0.9em/1.4 ui-monospace, monospace; }
h3 { margin: 2.5rem 0 0; } h3 b { display: inline-block; min-width: 4.5rem; }
table { border-collapse: collapse; margin: 0.5rem 0; width: 100%; }
td, th { border-top: 1px solid #8884; padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; vertical-align: top; }
:root { color-scheme: light dark; }
"""


@cache
def page() -> bytes:
    """The page."""
    return "\n".join(_page(describe())).encode()


def _page(described: Json) -> Iterator[str]:
    about = described["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{about["title"]}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    yield f"<h1>{about['title']} {about['version']}</h1><p>{escape(about['description'])}"
    yield '<p>The same for programs: <a href="openapi.json">openapi.json</a>'
    for tag in described["tags"]:
        yield f"<h2>{tag['name']}</h2><p>{escape(tag['description'])}"
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"] and method != "head":
                    yield from _operation(path, method, operation)
    yield "<h2>bodies</h2>"
    for name, schema in described["components"]["schemas"].items():
        yield f'<h3 id="{name}">{name}</h3><p>{escape(schema["description"])}'
        yield from _table(_fields(schema))


def _operation(path: str, method: str, operation: Json) -> Iterator[str]:
    yield f'<h3 id="{operation["operationId"]}"><b>{method.upper()}</b> <code>{escape(path)}</code></h3>'
    yield f"<p>{escape(operation['summary'])}." + (" With an admin key." if "admin" in operation["tags"] else "")
    yield from _table(
        (
            f"<code>{one['name']}</code>",
            one["in"],
            _type(one["schema"], one["required"]),
            escape(one.get("description", "")),
        )
        for one in operation.get("parameters", ())
    )
    if "requestBody" in operation:
        yield f"<p>Body: {_content(operation['requestBody'])}"
    yield from _table(
        (status, _content(answer) if int(status) < 400 else "", escape(answer["description"]))
        for status, answer in operation["responses"].items()
    )


def _fields(schema: Json) -> Iterator[tuple[str, ...]]:
    for name, field in schema["properties"].items():
        needed = name in schema["required"]
        yield f"<code>{name}</code>", _type(field, needed), escape(field.get("description", ""))


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    cells = ["".join(f"<td>{cell}" for cell in row) for row in rows]
    if cells:
        yield f"<table>{''.join(f'<tr>{row}' for row in cells)}</table>"


def _content(described: Json) -> str:
    for media, content in described.get("content", {}).items():
        return _type(content["schema"]) if "$ref" in content["schema"] else f"<code>{media}</code>"
    return ""


def _type(schema: dict[str, Any], needed: bool = True) -> str:
    """A short form of a schema: a link to a body, or its type with its bounds."""
    if not needed:
        return f"{_type(schema)}, optional"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'] or schema['prefixItems'][0])}"
    kind = schema.get("format", schema.get("type", "anything"))
    bounds = {name: schema[name] for name in _BOUNDS if name in schema}
    return escape(" ".join([kind, *(f"{_BOUNDS[name]} {bound}" for name, bound in bounds.items())]))


_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "minLength": "of at least",
    "maxLength": "of at most",
    "pattern": "like",
}
