"""Our own server, run as a process as its users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bert_serving.client import BertClient

from bert_tokemb import Address

__all__ = ["OurServer", "client_of"]


class OurServer:
    """``bert-tokemb serve`` on free ports; a context manager that leaves nothing behind.

    Args:
        options: What stands behind ``bert-tokemb serve``, ports aside: our options, or those of
            ``bert-serving-start``.
    """

    def __init__(self, *options: str | Path) -> None:
        dash = "-port", "-port_out"
        ports = ("--port", "--port-out") if "--model" in options else dash
        zero = [part for name in ports for part in (name, "0")]
        self.command = [sys.executable, "-m", "bert_tokemb", "serve", *map(str, options), *zero]
        # A file, so that nobody has to read what is told while it is told.
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.told.splitlines()]

    @property
    def told(self) -> str:
        """Everything on its standard error so far."""
        size = self._told.seek(0, os.SEEK_END)
        return os.pread(self._told.fileno(), size, 0).decode()

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(signum)
        return self.process.wait(timeout)

    def __enter__(self) -> OurServer:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=self._told, text=True
        )
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.__exit__()
            raise AssertionError(self.told)
        host, port, port_out = line.split()[1].split(":")
        self.address = Address(host, int(port), int(port_out))
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._told.close()


def client_of(address: Address, **options: Any) -> BertClient:
    """Connect an unmodified client, which waits at most a minute for anything."""
    settings = {"timeout": 60_000, "check_length": False, **options}
    return BertClient(address.host, address.port, address.port_out, **settings)
