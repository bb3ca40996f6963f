"""The files that an image contains: those of a wheel, which is really built."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT


@cache
def shipped_files() -> frozenset[str]:
    """The paths of the files in it, without its metadata."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy: setuptools leaves a build folder in the source, with files from the last build.
        source = Path(folder, "source")
        source.mkdir()
        for name in ("api", "shared", "workers"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source / name)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--wheel-dir", folder, source], check=True, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return frozenset(name for name in archive.namelist() if ".dist-info/" not in name)
