"""The address of a server."""

from __future__ import annotations

import socket
from dataclasses import dataclass

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server: it receives requests on ``port`` and sends replies on ``port_out``.

    >>> str(Address("localhost"))
    'localhost:5555:5556'
    """

    host: str = "localhost"
    port: int = 5555
    port_out: int = 5556

    def __str__(self) -> str:
        return f"{self.host}:{self.port}:{self.port_out}"

    def probe(self, timeout: float) -> None:
        """Connect to ``port`` and disconnect.

        ZeroMQ cannot answer whether a server listens: it connects in the background, and retries
        without reporting an error.

        Raises:
            OSError: if nothing accepts the connection within ``timeout`` seconds.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)
        except UnicodeError as error:  # the host has a label that is empty or too long
            raise OSError(str(error)) from error
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout)
            probe.connect(found[0][4])

    def listens(self, timeout: float) -> bool:
        """Return whether something accepts a connection to ``port``."""
        try:
            self.probe(timeout)
        except OSError:
            return False
        return True
