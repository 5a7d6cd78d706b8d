"""Where a server listens, and whether anything does."""

from __future__ import annotations

import socket
from dataclasses import dataclass

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: requests go to ``port``, replies come from ``port_out``."""

    host: str = "localhost"
    port: int = 5555
    port_out: int = 5556

    def __str__(self) -> str:
        return f"{self.host}:{self.port}:{self.port_out}"

    def probe(self, timeout: float) -> None:
        """Raise ``OSError`` unless something accepts a connection on ``port``.

        ZeroMQ connects in the background and never tells that nobody is there.
        """
        found = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout)
            probe.connect(found[0][4])
