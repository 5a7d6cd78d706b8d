"""The genuine bert-serving-server 1.10.0 on TensorFlow 1.15, under Python 3.7."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Any

import numpy as np

from bert_tokemb import Address

from .interpreters import environment
from .models import Weights, as_tensorflow, random_weights

__all__ = [
    "NONE",
    "GenuineServer",
    "free_address",
    "known_to_the_server",
    "make_model",
    "server_python",
]

SCRIPTS = Path(__file__).parents[1] / "genuine"
REQUIREMENTS = (
    "tensorflow==1.15.5",
    "protobuf<3.21",
    "numpy<1.19",
    "bert-serving-server==1.10.0",
)
NONE = ("-pooling_strategy", "NONE", "-show_tokens_to_client")
"""The options with which the server returns the vectors of pieces."""

_random = SystemRandom()

_READY = "all set, ready to serve request!"
_START_TIMEOUT = 240.0  # seconds; it takes 4 to 15 on an idle machine


@cache
def server_python() -> str:
    """Return the interpreter of the genuine server; its environment is created at first use."""
    return environment("3.7", REQUIREMENTS)


def free_address() -> Address:
    """Return a loopback address with two ports on which nothing listens.

    The ports are outside the range that the system assigns to other sockets.
    """
    ports: list[int] = []
    while len(ports) < 2:
        port = _random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return Address("127.0.0.1", *ports)


def make_model(
    directory: Path,
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    weights: Weights | None = None,
) -> Path:
    """Write a model directory in the layout of Google's releases, with TensorFlow 1.15.

    Args:
        directory: Where to write it.
        config: The configuration; ``vocab_size`` is added.
        vocabulary: The pieces.
        weights: The weights by Hugging Face's names; by default those of
            :func:`support.models.random_weights`, as in :func:`support.models.write_hugging_face`.
    """
    weights = weights or random_weights(config, len(vocabulary))
    with tempfile.TemporaryDirectory() as scratch:
        config_path = Path(scratch) / "config.json"
        config_path.write_text(json.dumps(dict(config, vocab_size=len(vocabulary))))
        vocabulary_path = Path(scratch) / "vocabulary.txt"
        vocabulary_path.write_text("".join(f"{piece}\n" for piece in vocabulary), "utf-8")
        weights_path = Path(scratch) / "weights.npz"
        np.savez(weights_path, **as_tensorflow(weights))
        script = SCRIPTS / "make_checkpoint.py"
        subprocess.run(
            [server_python(), script, directory, config_path, vocabulary_path, weights_path],
            check=True,
            capture_output=True,
        )
    return directory


_KNOWN = """
import json, sys, unicodedata
text = json.load(sys.stdin)
json.dump(sorted({char for char in text if unicodedata.category(char) != "Cn"}), sys.stdout)
"""


def known_to_the_server(words: list[str]) -> list[str]:
    """Drop words with characters unassigned in Python 3.7, which the server deletes."""
    done = subprocess.run(
        [server_python(), "-c", _KNOWN],
        input=json.dumps("".join(words)),
        capture_output=True,
        text=True,
        check=True,
    )
    known = set(json.loads(done.stdout))
    return [word for word in words if known.issuperset(word)]


class GenuineServer:
    """A server process with its workers; a context manager that ends all of them.

    Args:
        options: Options of ``bert-serving-start``, except for ports.
    """

    def __init__(self, *options: str | Path) -> None:
        self.address = free_address()
        self._options = [str(option) for option in options]
        # A short path, because those of the ipc sockets are limited to about 100 characters.
        self._scratch = Path(tempfile.mkdtemp(prefix="bts-"))
        self._log = self._scratch / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start or restart the server on its ports, and wait until it is ready."""
        command = [
            server_python(),
            str(SCRIPTS / "serve.py"),
            *self._options,
            "-cpu",
            *("-port", str(self.address.port), "-port_out", str(self.address.port_out)),
            *("-graph_tmp_dir", str(self._scratch)),
        ]
        scratch = str(self._scratch)
        variables = {
            "CUDA_VISIBLE_DEVICES": "-1",
            "ZEROMQ_SOCK_TMP_DIR": scratch,
            "TMPDIR": scratch,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # the server ends with this process
                stdout=log,
                stderr=log,
                cwd=self._scratch,
                env={**os.environ, **variables},
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while _READY not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server and its workers, which have a separate session."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def __enter__(self) -> GenuineServer:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)
