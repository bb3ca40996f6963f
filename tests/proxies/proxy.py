"""Real proxies with the recipes that we ship: only addresses are changed, and where temporary files go."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import pytest

from shared.dev.redis_server import LOCALHOST
from shared.dev.watchdog import Watchdog
from tests.support.paths import ROOT
from tests.support.ports import free_port

RECIPES = ROOT / "shared" / "recipes"


class Proxy(ABC):
    """`with Nginx(gate=8001, shop=9001, event="sale") as proxy:` starts it; nothing is left of it, also after failures.

    `tidies`: it removes dot segments from paths before it looks whether they are open.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    dialect: ClassVar[str] = "forwarded"
    tidies: ClassVar[bool] = True

    def __init__(self, *, gate: int, shop: int, event: str) -> None:
        self.gate, self.shop, self.event = gate, shop, event
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix=f"daegi-{self.name}-")
        self.folder = Path(self._folder.name)
        # Started by root, servers give up their rights and still have to reach their temporary files.
        self.folder.chmod(0o711)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    @classmethod
    def is_installed(cls) -> bool:
        """Whether this machine has it."""
        return shutil.which(cls.program, path=_PATH) is not None

    def __enter__(self) -> Self:
        if not self.is_installed():
            self._folder.cleanup()
            pytest.skip(f"{self.program} is not installed: apt-get install {self.name}")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.dismiss()
        if self._process is not None:
            # The whole session: some have children that outlive a killed parent.
            for signum in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self._process.pid, signum)
                    self._process.wait(5)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
        self._folder.cleanup()

    def log(self) -> str:
        """What it has written."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    @abstractmethod
    def configure(self) -> list[str]:
        """Writes its configuration into `folder`; the command that runs it in the foreground."""

    def recipe(self, file: str, changes: dict[str, str]) -> str:
        """A recipe with other addresses. Each thing that is changed has to be in it."""
        text = (RECIPES / file).read_text()
        for old, new in changes.items():
            assert old in text, f"{file} has no {old}"
            text = text.replace(old, new)
        return text

    def _start(self) -> None:
        command = self.configure()
        with (self.folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={"PATH": _PATH, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog = Watchdog(self._process.pid, signal.SIGTERM, self.folder)
        deadline = time.monotonic() + 20
        while not _answers(self.port):
            assert self._process.poll() is None, f"{self.name} ended at once:\n{self.log()}"
            assert time.monotonic() < deadline, f"{self.name} was not ready in 20 s:\n{self.log()}"
            time.sleep(0.05)


class Nginx(Proxy):
    """nginx, unprivileged, in the foreground. It may know of `more_gates`, as where several api processes run."""

    name, program, dialect = "nginx", "nginx", "nginx"

    def __init__(self, *, gate: int, shop: int, event: str, more_gates: Sequence[int] = ()) -> None:
        super().__init__(gate=gate, shop=shop, event=event)
        self._gates = (gate, *more_gates)

    def configure(self) -> list[str]:
        changes = {
            "server 127.0.0.1:8000;": " ".join(f"server {LOCALHOST}:{gate};" for gate in self._gates),
            "127.0.0.1:9000": f"{LOCALHOST}:{self.shop}",
            "listen 80;": f"listen {LOCALHOST}:{self.port};",
            "gate/checkout/nginx": f"gate/{self.event}/nginx",
        }
        (self.folder / "daegi.conf").write_text(self.recipe("nginx.conf", changes))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        (self.folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {self.folder}/nginx.pid; error_log {self.folder}/error.log info;\n"
            "worker_rlimit_nofile 8192; events { worker_connections 4096; }\n"
            f"http {{ access_log off; {temporary}\ninclude {self.folder}/daegi.conf; }}\n"
        )
        return [
            self.program,
            "-p",
            str(self.folder),
            "-e",
            f"{self.folder}/error.log",
            "-c",
            f"{self.folder}/nginx.conf",
        ]


class Caddy(Proxy):
    """Caddy, without its admin endpoint and without certificates."""

    name, program = "caddy", "caddy"

    def configure(self) -> list[str]:
        changes = {
            "127.0.0.1:8000": f"{LOCALHOST}:{self.gate}",
            "127.0.0.1:9000": f"{LOCALHOST}:{self.shop}",
            "shop.example {": f"http://:{self.port} {{\n\tbind {LOCALHOST}",
            "gate/checkout/forwarded": f"gate/{self.event}/forwarded",
        }
        recipe = self.recipe("Caddyfile", changes)
        (self.folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{recipe}")
        return [self.program, "run", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")]


class Haproxy(Proxy):
    """HAProxy, with the Lua that asks the gate."""

    name, program, tidies = "haproxy", "haproxy", False

    def configure(self) -> list[str]:
        changes = {
            "127.0.0.1:8000": f"{LOCALHOST}:{self.gate}",
            "127.0.0.1:9000": f"{LOCALHOST}:{self.shop}",
            "bind :80": f"bind {LOCALHOST}:{self.port}",
            "gate/checkout/forwarded": f"gate/{self.event}/forwarded",
            "/etc/haproxy/": f"{RECIPES}/",
        }
        (self.folder / "haproxy.cfg").write_text(self.recipe("haproxy.cfg", changes))
        return [self.program, "-db", "-q", "-f", str(self.folder / "haproxy.cfg")]


class Apache(Proxy):
    """Apache httpd, with the Lua that asks the gate."""

    name, program = "apache", "apache2"

    @classmethod
    def is_installed(cls) -> bool:
        """Whether this machine has it, and LuaSocket."""
        return super().is_installed() and any(Path("/usr/share/lua").glob("*/socket/http.lua"))

    def configure(self) -> list[str]:
        lua = {"127.0.0.1:8000": f"{LOCALHOST}:{self.gate}", "gate/checkout/": f"gate/{self.event}/"}
        (self.folder / "daegi-apache.lua").write_text(self.recipe("daegi-apache.lua", lua))
        changes = {
            "127.0.0.1:8000": f"{LOCALHOST}:{self.gate}",
            "127.0.0.1:9000": f"{LOCALHOST}:{self.shop}",
            "<VirtualHost *:80>": f"<VirtualHost {LOCALHOST}:{self.port}>",
            "/etc/apache2/": f"{self.folder}/",
        }
        (self.folder / "daegi.conf").write_text(self.recipe("apache.conf", changes))
        modules = ("mpm_event", "authz_core", "headers", "lua", "proxy", "proxy_http")
        load = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules)
        owner = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        (self.folder / "apache.conf").write_text(
            f"{load}\n{owner}ServerName {LOCALHOST}\nListen {LOCALHOST}:{self.port}\nServerRoot {self.folder}\n"
            f"PidFile {self.folder}/pid\nDefaultRuntimeDir {self.folder}\nMutex file:{self.folder}\n"
            f"ErrorLog {self.folder}/error.log\nDocumentRoot {self.folder}\nInclude {self.folder}/daegi.conf\n"
        )
        return [self.program, "-DFOREGROUND", "-f", str(self.folder / "apache.conf")]


# Debian puts servers where only root looks for them.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/sbin"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOCALHOST, port)) == 0
