"""No telemetry, and no network connection without a server or a model on the hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.ours import OurServer

# A network without interfaces: whatever is sent counts as "no route".
_ISOLATED = ["unshare", "--map-root-user", "--net"]
_PACKETS = "grep ^Ip: /proc/self/net/snmp"


def environment(home: Path) -> dict[str, str]:
    # Importing the engine in this process has set the variable.
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def test_embed_starts_no_telemetry(shared_tiny: Path, home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bert_tokemb", "embed", "-", "-o", tmp_path / "out"]
    options = ["--model", shared_tiny, "--threads", "1"]
    env = environment(home)
    subprocess.run([*command, *options], check=True, input=b"a b\n", env=env, capture_output=True)
    assert list(home.iterdir()) == []


def test_serve_starts_no_telemetry(shared_tiny: Path, home: Path) -> None:
    with OurServer("--model", shared_tiny, env=environment(home)) as server:
        assert server.stop() == 0
    assert list(home.iterdir()) == []


def test_user_can_allow_telemetry(home: Path) -> None:
    script = "import bert_tokemb.models.engine, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {**environment(home), "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, env=env, capture_output=True, text=True
    )
    assert done.stdout == "0\n"


def test_local_model_opens_no_network_connection(
    shared_tiny: Path, home: Path, tmp_path: Path
) -> None:
    if shutil.which("unshare") is None or subprocess.run([*_ISOLATED, "true"]).returncode:
        pytest.skip("this system does not allow network namespaces")
    script = '"$0" -m bert_tokemb embed - -o "$1" --model "$2" && ' + _PACKETS
    done = subprocess.run(
        [*_ISOLATED, "sh", "-c", script, sys.executable, tmp_path / "out", shared_tiny],
        check=True,
        input="a b\n",
        env=environment(home),
        capture_output=True,
        text=True,
    )
    names, values = (line.split() for line in done.stdout.splitlines())
    packets = dict(zip(names, values, strict=True))
    assert (packets["OutRequests"], packets["OutNoRoutes"]) == ("0", "0")
