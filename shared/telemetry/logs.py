"""Logs of every process: ours, arq's and the server's through one pipe. They hold no token, body or user id."""

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
    """Sends structlog and the standard library's loggers through one pipe to stderr."""
    logging.config.dictConfig(log_config(settings))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs a call that does nothing.
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        cache_logger_on_first_use=True,
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


def _level(settings: Settings) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def _readable(settings: Settings) -> bool:
    if settings.log_format != "auto":
        return settings.log_format == "text"
    return settings.environment != "production" and sys.stderr.isatty()


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact_all(dict(event))
    return redacted
