"""Logs of every process: ours, arq's and the server's, all in one format. They hold no token, body or user id."""

import logging
import logging.config
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from shared.redaction import redact_all
from shared.settings import Settings

_SERVERS = ("_granian", "uvicorn", "uvicorn.error")
"""Loggers that bring their own handlers; being named in the configuration removes those."""

_CHATTY = ("arq", "granian.access", "uvicorn.access")
"""Loggers that write a line per job or request at level info; ours write one per change of state."""


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
    """Sends the lines of structlog and of the standard library's loggers to stderr in one format."""
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A line below the level costs only an empty call.
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        cache_logger_on_first_use=True,
    )


def log_config(settings: Settings) -> dict[str, Any]:
    """The configuration for logging.config.dictConfig, which granian applies before our code runs in its processes."""
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
    """A formatter that writes a line of text, or of JSON."""
    # Tracebacks are plain text: a rich one would show the values of variables, such as tokens and user ids.
    render: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, _redact_event]
    if readable:
        render.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        render.append(structlog.processors.JSONRenderer())
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_COMMON, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render]
    )


def _level(settings: Settings) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def _readable(settings: Settings) -> bool:
    if settings.log_format != "auto":
        return settings.log_format == "text"
    return settings.environment != "production" and sys.stderr.isatty()


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact_all(dict(event))
    return redacted
