"""Another version of Daegi's code, to run side by side with this one as in a rollout."""

import shutil
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("api", "shared", "workers")


def write_next_version(folder: Path) -> None:
    """Copies the code into a folder and changes it: every script has another SHA-1, and /healthz names the version."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for script in (folder / "shared" / "line" / "lua").rglob("*.lua"):
        script.write_text(script.read_text() + "-- the next version\n")
    probes = folder / "api" / "ops" / "probes.py"
    now = 'json_response(200, Health("ok"))'
    assert now in probes.read_text()
    probes.write_text(probes.read_text().replace(now, 'json_response(200, {"status": "ok", "version": "next"})'))
