"""The api's description, and whether an answer conforms to it."""

from collections.abc import Iterator
from typing import Any

import httpx
from jsonschema import Draft202012Validator

METHODS = ("get", "put", "post", "delete", "head")


class Description:
    """The document of /openapi.json; it notes which of its answers have been seen."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.seen: set[tuple[str, int]] = set()

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Path, method and description of each."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield path, method.upper(), operation

    def methods(self) -> dict[str, set[str]]:
        """By path."""
        found: dict[str, set[str]] = {}
        for path, method, _ in self.operations():
            found.setdefault(path, set()).add(method)
        return found

    def answers(self) -> set[tuple[str, int]]:
        """Every operation with every status."""
        return {(one["operationId"], int(status)) for _, _, one in self.operations() for status in one["responses"]}

    def refusals(self, method: str, path: str) -> set[tuple[int, str]]:
        """Status and code of each; of any method of any path where there is no such operation."""
        operation = self.document["paths"].get(_template(path), {}).get(method.lower())
        if operation:
            return {(int(status), code) for status, said in operation["responses"].items() for code in _codes(said)}
        return {(status, code) for status, said in self._nowhere().items() for code in _codes(said)}

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        """Fails unless this answer is one that is described."""
        operation = self.document["paths"].get(_template(path), {}).get(method.lower())
        responses = operation["responses"] if operation else {str(it): said for it, said in self._nowhere().items()}
        told = f"{method} {path}: {answer.status_code} {answer.text}"
        assert str(answer.status_code) in responses, told
        said = responses[str(answer.status_code)]
        if operation:
            self.seen.add((operation["operationId"], answer.status_code))
        for name, header in said.get("headers", {}).items():
            assert name in answer.headers or not header["required"], told
            if name in answer.headers and header["schema"].get("type") == "integer":
                assert int(answer.headers[name]) >= header["schema"]["minimum"], told
        if method == "HEAD" or "content" not in said:
            assert answer.content == b""
            return
        media = answer.headers["content-type"].partition(";")[0]
        assert media in said["content"], told
        if media == "application/json":
            schema = said["content"][media]["schema"] | {"components": self.document["components"]}
            Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(answer.json())

    async def watch(self, answer: httpx.Response) -> None:
        """An event hook of httpx."""
        await answer.aread()
        self.check(answer.request.method, answer.request.url.path, answer)

    def _nowhere(self) -> dict[int, Any]:
        said = self.document["components"]["responses"]
        return {404: said["NotFound"], 405: said["MethodNotAllowed"]}


def _template(path: str) -> str:
    for before in ("/api/v1/admin/events/", "/api/v1/gate/"):
        if path.startswith(before):
            rest = path.removeprefix(before).split("/")[1:]
            return f"{before}{{event_id}}" + "/".join(["", *rest])
    return path


def _codes(said: dict[str, Any]) -> list[str]:
    schema = said.get("content", {}).get("application/json", {}).get("schema", {})
    for part in schema.get("allOf", ()):
        if "properties" in part:
            codes: list[str] = part["properties"]["error"]["properties"]["code"]["enum"]
            return codes
    return []
