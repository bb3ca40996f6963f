"""The result of a scenario."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """The figures of a scenario, and every broken promise."""

    name: str
    fault: str
    faults: int = 0
    seconds: float = 0.0
    people: int = 0
    requests: int = 0
    refused: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    unconnected: int = 0
    lost: int = 0
    double: int = 0
    gap: tuple[float, str] = (0.0, "")
    longest_wait: tuple[float, str] = (0.0, "")
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def verdict(self) -> str:
        """The result in a word."""
        return "skipped" if self.skipped else "FAILED" if self.failures else "kept"

    @property
    def load(self) -> str:
        """People, and requests a second."""
        return f"{self.people:,}, {self.requests / self.seconds:,.0f}/s" if self.people else ""
