"""Logs and error reports of every process; neither ever holds a token, a body or a user id."""

import logging
import logging.config
import os
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import sentry_sdk
import structlog

from shared.redaction import redact_all
from shared.settings import Settings

_log = structlog.get_logger(__name__)

_SERVERS = ("_granian", "uvicorn", "uvicorn.error")
"""Loggers that come with handlers of their own, which they lose by being named."""

_CHATTY = ("arq", "granian.access", "uvicorn.access")
"""Loggers whose info is a line a job or a request: ours is a line a change of state."""


def _add_pid(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["pid"] = os.getpid()
    return event


_COMMON: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _add_pid,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure(settings: Settings) -> None:
    """Sends structlog and the standard library's loggers through one pipe to stderr, and reports errors to the DSN."""
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs a call that does nothing.
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        cache_logger_on_first_use=True,
    )
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


def log_config(settings: Settings) -> dict[str, Any]:
    """What logging.config.dictConfig makes the pipe of, in processes that are not ours yet, too: granian's."""
    chatty = logging.DEBUG if settings.log_level == "debug" else logging.WARNING
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"daegi": {"()": f"{__name__}.make_formatter", "readable": _readable(settings)}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "daegi", "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["stderr"], "level": _level(settings)},
        "loggers": {
            name: {"propagate": True, "level": chatty if name in _CHATTY else _level(settings)}
            for name in (*_SERVERS, *_CHATTY)
        },
    }


def make_formatter(*, readable: bool) -> logging.Formatter:
    """Writes a line of text, or of JSON."""
    # In plain text: a rich traceback would show the values of variables, tokens and user ids among them.
    render: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, _redact_event]
    if readable:
        render.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        render.append(structlog.processors.JSONRenderer())
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_COMMON, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )


def watch_for_crashes() -> None:
    """Has what ends this process, or a thread of it, logged and reported too."""
    sys.excepthook = _note_crash
    threading.excepthook = lambda died: _note_crash(died.exc_type, died.exc_value, died.exc_traceback)


def capture(error: BaseException, **tags: str) -> None:
    """Reports an unexpected error, if there is a DSN."""
    with sentry_sdk.new_scope() as scope:
        for name, value in tags.items():
            scope.set_tag(name, value)
        scope.capture_exception(error)


def _note_crash(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None, /) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("this should not have happened", exc_info=(kind, error, traceback))
    capture(error)


def _level(settings: Settings) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def _readable(settings: Settings) -> bool:
    if settings.log_format != "auto":
        return settings.log_format == "text"
    return settings.environment != "production" and sys.stderr.isatty()


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact_all(dict(event))
    return redacted


def _scrub(event: Any, _: Any) -> Any:
    event.pop("request", None)
    event.pop("user", None)
    return redact_all(event)
