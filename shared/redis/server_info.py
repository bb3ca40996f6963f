"""What a Redis server says of itself in INFO, as far as operators and warnings need it."""

from typing import Any, NamedTuple


class Server(NamedTuple):
    """A Redis server (master): where it is, CPU seconds of its main thread, bytes in use and at most (0: any)."""

    address: str
    cpu_user: float
    cpu_system: float
    memory: int
    memory_limit: int
    memory_policy: str

    @classmethod
    def parse(cls, host: str, info: dict[str, Any]) -> "Server":
        """From its INFO."""
        return cls(
            f"{host}:{info['tcp_port']}",
            info["used_cpu_user_main_thread"],
            info["used_cpu_sys_main_thread"],
            info["used_memory"],
            info["maxmemory"],
            info["maxmemory_policy"],
        )
