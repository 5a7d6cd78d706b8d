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
from pathlib import Path
from typing import Any

from bert_tokemb import Address

from .interpreters import environment

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
"""The options without which the server returns no piece vectors."""

READY = "all set, ready to serve request!"
STARTS_WITHIN = 120.0


def server_python() -> str:
    """Return the interpreter that runs the genuine server; made at first use."""
    return environment("3.7", REQUIREMENTS)


def free_address() -> Address:
    """Return two ports of the loopback address that nobody uses at the moment."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", one.getsockname()[1], other.getsockname()[1])


def make_model(
    directory: Path,
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    weights: Path | None = None,
) -> Path:
    """Let TensorFlow 1.15 write a model directory as Google released them."""
    with tempfile.TemporaryDirectory() as scratch:
        config_path = Path(scratch) / "config.json"
        config_path.write_text(json.dumps(dict(config, vocab_size=len(vocabulary))))
        vocabulary_path = Path(scratch) / "vocabulary.txt"
        vocabulary_path.write_text("".join(f"{piece}\n" for piece in vocabulary), "utf-8")
        subprocess.run(
            [
                server_python(),
                SCRIPTS / "make_checkpoint.py",
                directory,
                config_path,
                vocabulary_path,
                *([weights] if weights else []),
            ],
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
    """Drop words with characters that are newer than Python 3.7, which its BERT deletes."""
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
    """One server process with its workers; a context manager that leaves none of them behind.

    Args:
        options: What stands behind ``bert-serving-start``, ports aside.
    """

    def __init__(self, *options: str | Path) -> None:
        self.address = free_address()
        self._options = [str(option) for option in options]
        # Short: the paths of its ipc sockets have a limit of some 100 characters.
        self._scratch = Path(tempfile.mkdtemp(prefix="bts-"))
        self._log = self._scratch / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it, also again on the same ports, and wait until it serves."""
        command = [
            server_python(),
            str(SCRIPTS / "serve.py"),
            *self._options,
            "-cpu",
            *("-port", str(self.address.port), "-port_out", str(self.address.port_out)),
            *("-graph_tmp_dir", str(self._scratch)),
        ]
        scratch = str(self._scratch)
        hidden = {"CUDA_VISIBLE_DEVICES": "-1", "ZEROMQ_SOCK_TMP_DIR": scratch, "TMPDIR": scratch}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # its end tells the server that we are gone
                stdout=log,
                stderr=log,
                cwd=self._scratch,
                env={**os.environ, **hidden},
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTS_WITHIN
        while READY not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, with its workers: they share the session it was given."""
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
