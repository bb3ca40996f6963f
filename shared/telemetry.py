"""Logs and error reports of every process; neither ever holds a token, a body or a user id."""

import logging
import logging.config
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import sentry_sdk
import structlog

from shared.settings import Settings

_TOKEN = re.compile(r"\b([wr])~[A-Za-z0-9_.:-]{1,64}~[0-9~]+~[A-Za-z0-9_-]{22}")
_QUERY = re.compile(r"([?&]token=)[^&\s\"']+")
"""In a path a token may be percent-encoded, or not quite a token and yet most of one."""

_CHATTY = ("arq", "granian.access", "uvicorn.access")
"""Loggers whose info is a line a job or a request: ours is a line a change of state."""


def redact(text: str) -> str:
    """The text with every token cut down to its kind, and every query's token to nothing."""
    return _TOKEN.sub(r"\1~[redacted]", _QUERY.sub(r"\1[redacted]", text))


def configure(settings: Settings) -> None:
    """Sends structlog and the standard library's loggers through one pipe to stderr: JSON unless it is a terminal."""
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # In plain text: a rich traceback would show the values of variables, tokens and user ids among them.
    last = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    render: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, _redact_event, last]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("_granian", "granian.access", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    if settings.sentry_dsn:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            environment=settings.environment,
            # They wrap every request and job; what is unexpected is reported by hand, off the hot path.
            default_integrations=False,
            auto_enabling_integrations=False,
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            before_send=_scrub,
        )


def capture(error: BaseException, **tags: str) -> None:
    """Reports an unexpected error, if there is a DSN."""
    with sentry_sdk.new_scope() as scope:
        for name, value in tags.items():
            scope.set_tag(name, value)
        scope.capture_exception(error)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.update(_redact_all(dict(event)))
    return event


def _scrub(event: Any, _: Any) -> Any:
    event.pop("request", None)
    event.pop("user", None)
    return _redact_all(event)


def _redact_all(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redact_all(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_all(inner) for inner in value]
    return value
