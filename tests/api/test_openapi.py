"""The description is made from what is served: it has every route and every refusal, and nothing else."""

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from unittest.mock import MagicMock

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import handlers
from api.contract.errors import MEANINGS, translate
from api.contract.openapi import document
from api.contract.reference_page import page
from api.contract.routes import OPERATIONS, bind
from shared.errors import DaegiError
from tests.api.bad_requests import BAD
from tests.api.described import Description
from tests.support.paths import ROOT


@pytest.fixture
def description() -> Description:
    return Description(json.loads(document()))


async def test_it_is_served_and_valid_openapi_3_1(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == document()
    assert answer.json()["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(answer.json()).iter_errors()) == []


async def test_every_route_is_described_and_nothing_else(http: httpx.AsyncClient, description: Description) -> None:
    for path, methods in description.methods().items():
        if path.endswith("/authorize"):
            # Whatever a visitor's method is, the proxy asks.
            assert methods == {"GET"}
            continue
        answer = await http.request("BREW", path.replace("{event_id}", "concert"))
        description.check("BREW", path, answer)
        # HEAD is told of once, for all.
        assert answer.headers["allow"] == ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    for path in ("/api/v1/admin/events/concert/", "/api/v1/admin/events/concert/more", "/api/v1/admin"):
        assert (await http.get(path)).status_code == 404


def test_every_operation_has_a_handler_and_every_handler_an_operation() -> None:
    ours = handlers(*[MagicMock() for _ in range(3)], admin=MagicMock(), probes=MagicMock(), key_set=MagicMock())
    assert {route.path for route in bind(ours)} == {operation.path for operation in OPERATIONS}
    with pytest.raises(ValueError, match="join"):
        bind({name: handler for name, handler in ours.items() if name != "join"})
    with pytest.raises(ValueError, match="dance"):
        bind({**ours, "dance": ours["join"]})


def raised() -> Iterator[tuple[int, str]]:
    """Status and code of each refusal that is spelled in the code of the api; `?` for a code handed on."""
    for file in sorted((ROOT / "api").rglob("*.py")):
        if file.is_relative_to(ROOT / "api" / "room"):
            # Pages for people, and what their script asks for, are not described.
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "HttpError":
                status, code = call.args[:2]
                assert isinstance(status, ast.Constant)
                assert isinstance(status.value, int)
                codes = [part.value for part in ast.walk(code) if isinstance(part, ast.Constant)]
                yield from ((status.value, str(one)) for one in codes or ["?"])


def all_errors(base: type[DaegiError] = DaegiError) -> Iterator[type[DaegiError]]:
    yield base
    for kind in base.__subclasses__():
        yield from all_errors(kind)


def test_every_refusal_that_the_code_can_make_is_described_and_no_other(description: Description) -> None:
    made = set(raised()) | {
        (one.status, one.code) for one in (translate(kind.__new__(kind)) for kind in all_errors()) if one
    }
    described = description.refusals("GET", "/nowhere")
    for path, method, _ in description.operations():
        described |= description.refusals(method, path)
    assert made - {(422, "?")} == described
    # What is handed on there is INVALID_REQUEST.
    assert (422, "INVALID_REQUEST") in described
    assert {code for _, code in described} == set(MEANINGS)


def test_each_bad_request_is_refused_as_described(description: Description) -> None:
    astray = []
    for bad in BAD:
        method, target, _ = bad.request.decode("latin-1").split(" ", 2)
        path = target.partition("?")[0]
        if (bad.status, bad.code) not in description.refusals(method, path):
            astray.append(bad.name)
    assert astray == []


class Page(HTMLParser):
    """What a page is made of; void elements and those that HTML closes by itself need no end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"script", "img", "link", "iframe", "object"} or "src" in given:
            self.loaded.append(tag)
        if "id" in given:
            self.ids.add(given["id"] or "")
        if tag == "a":
            self.links.add(given["href"] or "")
        if tag in {"b", "a", "code", "h1", "h2", "h3", "table", "style", "title"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_is_self_contained_and_has_every_operation_and_code(
    http: httpx.AsyncClient, description: Description
) -> None:
    answer = await http.get("/docs")
    assert answer.content == page()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    read = Page()
    read.feed(answer.text)
    read.close()
    assert read.loaded == []
    assert read.open in ([], ["html"])
    assert {link.removeprefix("#") for link in read.links} <= read.ids | {"openapi.json"}
    for path, method, operation in description.operations():
        if method != "HEAD":
            assert operation["operationId"] in read.ids
            assert path in read.text
            assert operation["summary"] in read.text
    for name, schema in description.document["components"]["schemas"].items():
        assert name in read.ids
        assert schema["description"] in read.text
    told = set(re.findall(r"[A-Z]+_[A-Z_]+", read.text))
    assert {code for code in MEANINGS if "_" in code} <= told
