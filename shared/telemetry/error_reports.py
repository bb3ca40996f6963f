"""Reports of unexpected errors to Sentry. They hold no token, body or user id."""

import sys
import threading
from types import TracebackType
from typing import Any

import sentry_sdk
import structlog

from shared.redaction import redact_all
from shared.settings import Settings

_log = structlog.get_logger(__name__)


def configure(settings: Settings) -> None:
    """Reports errors to the DSN in the settings, if there is one."""
    if settings.sentry_dsn:
        sentry_sdk.init(
            dsn=settings.sentry_dsn.get_secret_value(),
            environment=settings.environment,
            # Integrations would wrap every request and job; unexpected errors are reported explicitly instead.
            default_integrations=False,
            auto_enabling_integrations=False,
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            before_send=_scrub,
        )


def watch_for_crashes() -> None:
    """Logs and reports errors that end this process or one of its threads."""
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


def _scrub(event: Any, _: Any) -> Any:
    event.pop("request", None)
    event.pop("user", None)
    return redact_all(event)
