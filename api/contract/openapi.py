"""The OpenAPI description of the api, made from the table of operations and the structs of its requests and answers."""

from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from api.contract.errors import MEANINGS
from api.contract.routes import ALWAYS, NOWHERE, OPERATIONS, TAGS, Described, Operation, ResponseSpec
from api.contract.schemas import ErrorResponse, EventPath, TokenQuery

Json = dict[str, Any]

_TEXT = """\
A virtual waiting room. Every error has the same envelope, with a trace_id that is the X-Request-ID of the request or \
one of ours. When Redis is away or too much is waiting, the answer is 503 with Retry-After, at once. A user_id in a \
body is a label that anyone can type; a gateway that knows its users names them in the header of \
DAEGI_TRUSTED_USER_HEADER, and then each has one place. Where there is no operation the answer is 404 NOT_FOUND, or \
405 METHOD_NOT_ALLOWED with Allow. HEAD is answered wherever GET is. A token in a query is in every proxy's log, one \
in Authorization: Bearer is not."""

_RETRY_AFTER: Json = {"description": "Seconds after which to come back", "schema": {"type": "integer", "minimum": 0}}
_LATER = frozenset({403, 429, 503})
"""Statuses with Retry-After."""

_SCHEMAS = "#/components/schemas/"


@cache
def document() -> bytes:
    """The description in JSON."""
    return msgspec.json.encode(describe())


def describe() -> Json:
    """The description."""
    components = _components()
    paths: dict[str, Json] = {}
    for one in OPERATIONS:
        # What is appended to a path, as Envoy does, is no parameter that OpenAPI could name.
        paths.setdefault(one.path.removesuffix("{rest*}"), {})[one.method.lower()] = _operation(one, components)
    for struct in {EventPath} | {struct for one in OPERATIONS for struct in (one.query, one.headers) if struct}:
        # Each of its fields becomes a parameter.
        del components[struct.__name__]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Daegi",
            "version": version("daegi"),
            "description": _TEXT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                HTTPStatus(status).phrase.replace(" ", ""): _refusal(status, codes) for status, codes in NOWHERE.items()
            },
            "securitySchemes": {
                "admin": {"type": "http", "scheme": "bearer", "description": "Of DAEGI_ADMIN_KEYS"},
                "waiting": {"type": "http", "scheme": "bearer", "description": "The newest waiting_token"},
            },
        },
    }


def _components() -> dict[str, Json]:
    structs: list[Described] = [ErrorResponse, EventPath]
    for one in OPERATIONS:
        answers = [answer.what for answer in one.answers]
        structs += [it for it in (one.query, one.headers, one.body, *answers) if isinstance(it, type)]
    _, components = msgspec.json.schema_components(structs, ref_template=_SCHEMAS + "{name}")
    for one in OPERATIONS:
        if one.body and one.needed:
            body = components[one.body.__name__]
            body["properties"][one.needed] = body["properties"][one.needed]["anyOf"][0]
            body["required"].append(one.needed)
    return components


def _operation(one: Operation, components: Mapping[str, Json]) -> Json:
    described: Json = {"operationId": one.name, "tags": [one.tag], "summary": one.summary}
    if one.tag == "admin":
        described["security"] = [{"admin": []}]
    elif one.query is TokenQuery:
        # {}: the token may be in the query instead.
        described["security"] = [{"waiting": []}, {}]
    places = {"path": EventPath if "{event_id}" in one.path else None, "query": one.query, "header": one.headers}
    if parameters := [it for where, struct in places.items() for it in _parameters(where, struct, components)]:
        described["parameters"] = parameters
    if one.body:
        described["requestBody"] = {"required": True, "content": _content(_ref(one.body))}
    refusals: dict[int, tuple[str, ...]] = {}
    for some in (ALWAYS[one.tag], one.refusals):
        for status, codes in some.items():
            refusals[status] = (*refusals.get(status, ()), *codes)
    responses = {answer.status: _answer(answer) for answer in one.answers}
    responses |= {status: _refusal(status, codes, bare=one.method == "HEAD") for status, codes in refusals.items()}
    described["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return described


def _parameters(where: str, struct: Described | None, components: Mapping[str, Json]) -> Iterator[Json]:
    if struct is None:
        return
    schema = components[struct.__name__]
    for name, field in schema["properties"].items():
        described = {"name": name, "in": where, "required": name in schema["required"]}
        if "description" in field:
            described["description"] = field["description"]
        yield described | {"schema": {key: value for key, value in field.items() if key != "description"}}


def _answer(answer: ResponseSpec) -> Json:
    described: Json = {"description": HTTPStatus(answer.status).phrase}
    if isinstance(answer.what, str):
        described["content"] = {answer.what: {"schema": {"type": "object" if "json" in answer.what else "string"}}}
    elif answer.what:
        described["description"] = (answer.what.__doc__ or "").partition("\n")[0]
        described["content"] = _content(_ref(answer.what))
    if answer.retry_after:
        described["headers"] = {"Retry-After": _RETRY_AFTER | {"required": True}}
    if answer.links:
        described["links"] = {link.operation: _link(link.operation, link.field) for link in answer.links}
    return described


def _link(operation: str, field: str) -> Json:
    target = next(one for one in OPERATIONS if one.name == operation)
    value = f"$response.body#/{field}"
    asked = {"requestBody": {field: value}} if target.body else {"parameters": {"token": value}}
    return {"operationId": operation, **asked}


def _refusal(status: int, codes: tuple[str, ...], *, bare: bool = False) -> Json:
    described: Json = {"description": " ".join(f"{code}: {MEANINGS[code]}." for code in codes)}
    if not bare:
        code = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
        described["content"] = _content({"allOf": [_ref(ErrorResponse), code]})
    headers: Json = {}
    if status in _LATER:
        headers["Retry-After"] = _RETRY_AFTER | {"required": "ADMIN_DISABLED" not in codes}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"required": True, "schema": {"const": "Bearer"}}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = {"required": True, "schema": {"type": "string"}}
    return described | ({"headers": headers} if headers else {})


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(struct: Described) -> Json:
    return {"$ref": _SCHEMAS + struct.__name__}
