"""What a refusal has to contain."""

from typing import Any

import httpx


def refused(answer: httpx.Response, status_code: int, code: str) -> dict[str, Any]:
    """Checks the envelope of an error and returns the error inside."""
    assert answer.status_code == status_code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert len(error["message"]) > 5
    assert error["trace_id"]
    assert not any(word in answer.text for word in ("Traceback", 'File \\"', ".py"))
    return error


def retry_after(answer: httpx.Response) -> int:
    """The Retry-After header in seconds; it has to be there."""
    seconds = int(answer.headers["retry-after"])
    assert seconds >= 1
    return seconds
