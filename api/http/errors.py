"""Refusals, and the envelope that every error is sent in."""

from typing import Any

from api.http.response import Header, Response, json_response, retry_after

CLOSE: tuple[Header, ...] = (("connection", "close"),)
"""For an answer that leaves the rest of the body unread: the connection cannot be used again."""


class HttpError(Exception):
    """A refusal: its status, its code and message for the envelope, and when to come back, in s."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: int | None = None,
        details: dict[str, int | str] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
        self.details, self.headers = details or {}, headers

    def response(self, trace_id: str) -> Response:
        """The envelope."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "trace_id": trace_id, **self.details}
        headers = self.headers
        if self.retry_after is not None:
            headers = (*headers, retry_after(self.retry_after))
        return json_response(self.status, {"error": error}, *headers)


class UnexpectedError(Exception):
    """A fault of ours that several requests share, such as those of a batch. It is reported only once.

    `tags` go into the log line and the report; its cause is the error itself.
    """

    def __init__(self, **tags: str) -> None:
        super().__init__("something failed that should not")
        self.tags = tags
        self.reported = False


def invalid(message: str) -> HttpError:
    """The refusal of a request that is not well formed."""
    return HttpError(400, "INVALID_REQUEST", message)


def unsupported(message: str, *headers: Header) -> HttpError:
    """The refusal of a body in a format that is not ours."""
    return HttpError(415, "UNSUPPORTED_MEDIA_TYPE", message, headers=headers)
