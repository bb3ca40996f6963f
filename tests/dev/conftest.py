"""What the tests of a laptop's Redis, and of the launcher around it, see of processes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from shared.dev.redis_server import LOCALHOST, RedisServer

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
