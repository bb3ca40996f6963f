"""Looks the pinned versions up in PyPI's database of vulnerabilities: ``make audit``, which needs the network."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PINS = Path(__file__).parents[1] / ".constraints.txt"


def judge(report: str, trouble: str) -> tuple[int, str]:
    """An exit code, and what to tell, for pip-audit's JSON and what it wrote beside it. 1 for a vulnerability only."""
    try:
        found: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        reason = trouble.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        return 0, f"NOTHING WAS CHECKED, the database cannot be reached: {reason[0]}"
    checked = [one for one in found if "vulns" in one]
    if not checked:
        return 0, f"NOTHING WAS CHECKED: the index that is reached from here knows none of {len(found)} versions"
    lines = [
        f"{one['name']} {one['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none yet'}"
        for one in checked
        for known in one["vulns"]
    ]
    unchecked = [one["name"] for one in found if "vulns" not in one]
    if unchecked:
        lines.append(f"not checked: {', '.join(unchecked)}")
    vulnerable = sum(bool(one["vulns"]) for one in checked)
    lines.append(f"{vulnerable} of {len(checked)} versions have known vulnerabilities")
    return int(vulnerable > 0), "\n".join(lines)


def main() -> int:
    """Runs pip-audit and says what it found."""
    options = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", *options, "--requirement", str(_PINS)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    code, told = judge(ended.stdout, ended.stderr)
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
