"""The part of a Redis server's INFO that metrics and warnings need."""

from typing import Any, NamedTuple


class Server(NamedTuple):
    """A Redis server (master): its address, CPU seconds of its main thread, bytes in use, and their limit (0: none)."""

    address: str
    cpu_user: float
    cpu_system: float
    memory: int
    memory_limit: int
    memory_policy: str

    @classmethod
    def parse(cls, host: str, info: dict[str, Any]) -> "Server":
        """Reads the INFO of the server at `host`."""
        return cls(
            f"{host}:{info['tcp_port']}",
            info["used_cpu_user_main_thread"],
            info["used_cpu_sys_main_thread"],
            info["used_memory"],
            info["maxmemory"],
            info["maxmemory_policy"],
        )
