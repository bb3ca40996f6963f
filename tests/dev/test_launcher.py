"""The launcher around a laptop's Redis, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urljoin

import httpx
import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer, find_redis_server
from tests.dev.conftest import PRELUDE, ask, eventually, is_gone
from tests.support.paths import ROOT


class Launched:
    """A launcher with a Python child, and what it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def told(self) -> str:
        """The next line of what it says itself, '' at the end."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

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
        binary = find_redis_server()
        launched = launch("say(redis('PING').strip(), redis('INFO', 'server'))", DAEGI_REDIS_SERVER=str(binary.path))
        code, out, err = launched.end()
        assert code == 0
        assert out.startswith("+PONG")
        assert f"{binary.product} {binary.version} (of DAEGI_REDIS_SERVER) on redis://" in err
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

    @pytest.mark.parametrize("keys", ["", "first-key"])
    def test_shows_a_waiting_room_of_an_event_that_it_declares(self, launch: Launch, api_port: int, keys: str) -> None:
        environment = {"DAEGI_ADMIN_KEYS": f'["{keys}", "second-key"]'} if keys else {}
        launched = launch(arguments=[sys.executable, "-m", "api"], **environment)
        told = ""
        while "/waiting-room/" not in told:
            told = launched.told()
            assert told, "it ended"
        url = f"http://127.0.0.1:{api_port}/waiting-room/demo"
        assert url in told
        with httpx.Client(headers={"Sec-Fetch-Mode": "navigate"}, trust_env=False) as visitor:
            probed = visitor.get(url)
            walked_in = visitor.get(urljoin(url, probed.headers["location"]))
            assert walked_in.headers["location"] == "/docs"
        # Who comes next waits.
        with httpx.Client(headers={"Sec-Fetch-Mode": "navigate"}, trust_env=False, follow_redirects=True) as visitor:
            assert 'data-state="join"' in visitor.get(url).text
        launched.process.terminate()
        assert launched.end()[0] == 0

    def test_declares_nothing_in_a_redis_that_it_was_given(self, launch: Launch, server: RedisServer) -> None:
        launched = launch(
            "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
            "class Api(BaseHTTPRequestHandler):\n"
            "    def do_GET(self):\n"
            "        say(self.path)\n"
            "        self.send_response(200); self.end_headers()\n"
            "    log_message = lambda *_: None\n"
            "server = HTTPServer(('127.0.0.1', int(os.environ['DAEGI_PORT'])), Api)\n"
            "server.timeout = 10; server.handle_request()\n"
            "server.timeout = 1; server.handle_request()\n",
            DAEGI_REDIS_URL=server.url,
            DAEGI_ADMIN_KEYS='["a-key"]',
        )
        code, out, err = launched.end()
        assert (code, out.split()) == (0, ["/healthz"])
        assert "/waiting-room/" not in err

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
