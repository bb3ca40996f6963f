"""Logs, error reports and metrics."""

from shared.settings import Settings
from shared.telemetry import error_reports, logs


def configure(settings: Settings) -> None:
    """Sets up logs and error reports; call it before the first log line."""
    logs.configure(settings)
    error_reports.configure(settings)
