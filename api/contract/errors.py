"""The codes of the error envelope, and how our exceptions map to HTTP."""

from collections.abc import Mapping

from api.http.errors import HttpError
from api.http.request import MAX_BODY
from api.http.slow_bodies import BODY_SECONDS
from shared import errors

MEANINGS: Mapping[str, str] = {
    "ADMIN_DISABLED": "There are no admin keys",
    "ALREADY_REDEEMED": "This ticket has been redeemed",
    "EVENT_NOT_FOUND": "There is no such event",
    "EVENT_PAUSED": "Nobody is let in at the moment",
    "IDEMPOTENCY_KEY_REUSED": "This key was used by somebody else",
    "INTERNAL_ERROR": "Something went wrong here: the log has the trace_id",
    "INVALID_REQUEST": "The request is not well formed",
    "INVALID_TOKEN": "The token is missing or not one of ours, or not of this kind",
    "METHOD_NOT_ALLOWED": "Not with this method: Allow names those that are",
    "MISSING_EVENT_ID": "There is no event_id",
    "MISSING_TOKEN": "There is no token",
    "NOT_DAMAGED": "The line of this event is not damaged",
    "NOT_FOUND": "There is nothing at this path",
    "NOT_READY": "It is not their turn yet",
    "OVERLOADED": "Too much is waiting, or there are too many events",
    "BODY_TIMEOUT": f"The body did not come within {BODY_SECONDS} seconds",
    "PAYLOAD_TOO_LARGE": f"The body is larger than {MAX_BODY // 1024} KiB",
    "RATE_LIMITED": "Too many joins from this address",
    "RESERVATION_EXPIRED": "The reservation has lapsed: enter again",
    "TOKEN_EXPIRED": "The place in line is gone: join again",
    "UNAUTHORIZED": "A valid admin key is needed",
    "UNSUPPORTED_MEDIA_TYPE": "The body is a form, or compressed: send plain JSON",
    "WAITING_ROOM": "No pass: wait in the room",
    "UNAVAILABLE": "Redis is unavailable, or the event is being moved or repaired",
}
"""Every code, and what it means; each refusal in the code is one of these (tests/api/test_openapi.py)."""


def translate(error: Exception) -> HttpError | None:
    """The HTTP error for an exception that is raised on purpose; None for any other."""
    if not isinstance(error, errors.DaegiError):
        return None
    message = str(error)
    match error:
        case errors.InvalidTokenError():
            return HttpError(400, "INVALID_TOKEN", message)
        case errors.EventNotFoundError():
            return HttpError(404, "EVENT_NOT_FOUND", message)
        case errors.KeyReusedError():
            return HttpError(422, "IDEMPOTENCY_KEY_REUSED", message)
        case errors.OverloadedError() | errors.TooManyEventsError():
            return HttpError(503, "OVERLOADED", message, retry_after=2)
        case _:
            return HttpError(503, "UNAVAILABLE", message, retry_after=2)
