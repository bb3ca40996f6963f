"""Ends a process whose owner is gone, for whatever reason."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Final

# The shell waits on a pipe that only its parent holds open, so it notices any death of the parent. Unlike Linux's
# parent-death signal, this works on macOS too, and is not triggered by the end of a single thread.
WATCH: Final = 'read -r _; kill -s "$1" "$2"; [ -z "$3" ] || rm -rf -- "$3"'


class Watchdog:
    """Sends a signal to a process, and removes a directory, once the present process is gone."""

    def __init__(self, pid: int, signum: signal.Signals, directory: Path | None = None) -> None:
        name = signum.name.removeprefix("SIG")
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watchdog", name, str(pid), str(directory or "")],
            stdin=subprocess.PIPE,
            # Not inherited: it would keep the pipe open that the parent writes to.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C, or a kill of the parent's whole group, must not take the watchdog first.
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Ends the watch; from now on only the owner ends the process."""
        self._shell.kill()
        self._shell.communicate()
