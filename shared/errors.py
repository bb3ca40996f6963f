"""The errors that Daegi raises on purpose."""


class DaegiError(Exception):
    """The base of every error that Daegi raises on purpose; its docstring is its message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


def explain(error: BaseException) -> str:
    """An error and its causes, for the log: clients see only the first part."""
    parts = [str(error)]
    # An error that was raised again unchanged is its own cause.
    while (cause := error.__cause__) not in (None, error):
        parts.append(str(cause) or type(cause).__name__)
        error = cause
    return ": ".join(parts)


class UnavailableError(DaegiError):
    """Redis cannot be reached or cannot answer now."""


class NotReplicatedError(UnavailableError):
    """It was done, but too few replicas have it."""


class OverloadedError(DaegiError):
    """More is waiting than this process takes on."""


class EventNotFoundError(DaegiError):
    """There is no such event."""


class TooManyEventsError(DaegiError):
    """There are too many events to open another one."""


class LogLostError(DaegiError):
    """The event's log is being written back; try again soon."""


class PlaceUnknownError(DaegiError):
    """The places of verified users are being written back; try again soon."""


class KeyReusedError(DaegiError):
    """This Idempotency-Key was used by somebody else."""


class InvalidTokenError(DaegiError):
    """The token is not one of ours."""


class UnknownVersionError(DaegiError):
    """This was written by a version of Daegi that this one does not know."""
