"""What a process tells of itself: logs, error reports and metrics."""

from shared.settings import Settings
from shared.telemetry import error_reports, logs


def configure(settings: Settings) -> None:
    """Sets logs and error reports up; a process does this before its first line."""
    logs.configure(settings)
    error_reports.configure(settings)
