"""The local encoder and servers on the command line: options, and advice on errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb import Address
from bert_tokemb.cli.advice import with_advice
from bert_tokemb.errors import (
    PiecesRefusedError,
    ServerChangedError,
    ServerGoneError,
    ServerSettingsError,
    ServerSilentError,
    ServerUnreachableError,
    TokembError,
)
from support.command import Command, load
from support.genuine import free_address
from support.models import TINY
from support.standin import StandIn

WIDTH = TINY["hidden_size"]


@pytest.fixture
def model(shared_tiny: Path) -> Path:
    return shared_tiny


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("Hello World !\n\nhank \u200b\n日本\N{SNOWMAN} a\n")
    return path


# --- The engine -------------------------------------------------------------------------------


def test_embed_writes_the_vectors_of_a_local_model(
    model: Path, invoke: Command, text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = invoke("embed", text, "-o", output, "--model", model, "--strategy", "last")
    assert (done.returncode, done.stdout) == (0, "")
    assert "4 sentences, 7 words" in done.stderr
    assert "1 blank line, 1 unknown word, 1 word without pieces" in done.stderr
    arrays = load(output)
    assert [a.shape for a in arrays] == [(3, WIDTH), (0, WIDTH), (2, WIDTH), (2, WIDTH)]
    assert not arrays[2][1].any()
    assert all(array.dtype == np.float32 for array in arrays)


def test_engine_options_are_read_from_the_environment(
    model: Path, invoke: Command, text: Path, tmp_path: Path
) -> None:
    output, more = tmp_path / "out", ("--threads", "1", "--device", "cpu", "--precision", "int8")
    variables = {"BERT_TOKEMB_LAYERS": "-1,0"}
    done = invoke("embed", text, "-o", output, "--model", model, *more, env=variables)
    assert done.returncode == 0
    rough = load(output)
    variables["BERT_TOKEMB_MODEL"] = str(model)
    assert invoke("embed", text, "-o", output, env=variables).returncode == 0
    exact = load(output)
    assert rough[0].shape == exact[0].shape == (3, 2 * WIDTH)
    a, b = (np.concatenate(arrays) for arrays in (rough, exact))
    a, b = a[b.any(axis=1)], b[b.any(axis=1)]
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.98 < cosines.mean() < 0.999999


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--layers", "-4"], ["layer -4"]),
        (["--layers", "3"], ["layer 3", "has 3", "-3 or 0", "-1 or 2"]),
        (["--layers", "-1,2"], ["give each layer once"]),
        (["--max-seq-len", "65"], ["must be from 3 to 64", "not 65"]),
        (["--device", "cuda"], ["onnxruntime-gpu"]),
        (["--precision", "fp16"], ["fp16", "GPU", "int8"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_invalid_engine_options_are_usage_errors(
    options: list[str], parts: list[str], model: Path, invoke: Command, text: Path, tmp_path: Path
) -> None:
    done = invoke("embed", text, "-o", tmp_path / "out", "--model", model, *options)
    assert done.returncode == 2
    for part in parts:
        assert part in done.stderr
    assert not (tmp_path / "out").exists()


def test_line_longer_than_the_limit_is_reported_with_advice(
    model: Path, invoke: Command, text: Path, tmp_path: Path
) -> None:
    text.write_text("a b\n" + "a " * 62 + "\n" + "a " * 63 + "\n")
    options = ("embed", text, "-o", tmp_path / "out", "--model", model, "--long-sentences", "error")
    done = invoke(*options)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: line 3 (63 words) has 63 pieces, more than the 62 that the "
        "model accepts in addition to [CLS] and [SEP]; split the line, or give --long-sentences "
        "window\n"
    )
    done = invoke(*options, "--max-seq-len", "10")
    assert "line 2 (62 words) has 62 pieces, more than the 8 that" in done.stderr
    assert done.stderr.endswith("split the line, or give a larger --max-seq-len (up to 64)\n")


def test_lines_in_windows_are_counted(model: Path, invoke: Command, tmp_path: Path) -> None:
    text, output = tmp_path / "text", tmp_path / "out.pkl"
    text.write_text("a b\n" + "a " * 63 + "\n" + "a " * 62 + "\n")
    done = invoke("embed", text, "-o", output, "--model", model)
    assert done.returncode == 0
    assert "1 sentence in windows" in done.stderr
    assert [len(array) for array in load(output)] == [2, 63, 62]


def test_thread_limit_of_the_system_is_reported(model: Path, text: Path, tmp_path: Path) -> None:
    """A limit on memory prevents threads, since each needs memory for its stack."""
    script = 'ulimit -s 4000000; ulimit -v 7000000; exec "$@"'
    command = ["sh", "-c", script, "-", sys.executable, "-m", "bert_tokemb", "embed", text]
    text.write_text("".join("a " * n + "\n" for n in range(1, 30)))
    done = subprocess.run(
        [*command, "-o", tmp_path / "out", "--model", model, "--threads", "8"],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 4, done.stderr
    # Before it, tqdm warns that it cannot start a thread of its own.
    assert done.stderr.splitlines()[-1].startswith(
        "bert-tokemb: error: the system does not allow another thread"
    )
    assert "Traceback" not in done.stderr


# --- Errors of servers, with advice -----------------------------------------------------------

ADDRESS = Address("host", 1, 2)
START = (
    "bert-serving-start -model_dir MODEL_DIR -pooling_strategy NONE -show_tokens_to_client "
    "-max_seq_len NONE -port 1 -port_out 2"
)


PORTS = (
    "give the ports it was started with as --server HOST:PORT:PORT_OUT, wait until it logs `all "
    "set, ready to serve request!`, restart it if its worker has died"
)
MISSING = "-show_tokens_to_client"
RETURNS = "does not return vectors of pieces"
ADVICE: list[tuple[TokembError, str, str]] = [
    (
        ServerUnreachableError(ADDRESS, "no connection", "Connection refused"),
        "no bert-serving-server at host, ports 1 and 2 (Connection refused)",
        f"start one with: {START}",
    ),
    (
        ServerUnreachableError(ADDRESS, "no answer"),
        "something listens at host, port 1, but no bert-serving-server answers from port 2",
        f"{PORTS}, or start one with: {START}",
    ),
    (
        ServerSettingsError(ADDRESS, [MISSING], {"cpu": True}),
        f"the server at {ADDRESS} was started without {MISSING}, so it {RETURNS}",
        f"start it with: {START.replace(' -port ', ' -cpu -port ')}",
    ),
    (
        ServerChangedError(ADDRESS, {"model_dir": ("a", "b")}),
        "the server at host:1:2 was restarted with other settings (model_dir was 'a' and is 'b')",
        "run the command again",
    ),
    (ServerSilentError("no answer", 60.0), "no answer", "or give a longer --timeout"),
    (ServerGoneError("gone"), "gone", "then run the same command again"),
    (
        PiecesRefusedError(7),
        "line 7: the server was sent pieces, but returned other pieces",
        "give --long-sentences error, and split the lines that are too long",
    ),
]


@pytest.mark.parametrize(
    ("error", "message", "advice"), ADVICE, ids=lambda value: type(value).__name__
)
def test_server_errors_have_advice(error: TokembError, message: str, advice: str) -> None:
    assert str(error) == message
    assert with_advice(error) == f"{message}; {advice}"


def test_error_of_a_server_is_printed_with_advice(
    invoke: Command, text: Path, tmp_path: Path
) -> None:
    address = free_address()
    done = invoke("embed", text, "-o", tmp_path / "out", "--server", str(address))
    assert done.returncode == 3
    assert done.stderr == (
        f"bert-tokemb: error: no bert-serving-server at 127.0.0.1, ports {address.port} and "
        f"{address.port_out} (Connection refused); start one with: bert-serving-start -model_dir "
        "MODEL_DIR -pooling_strategy NONE -show_tokens_to_client -max_seq_len NONE -port "
        f"{address.port} -port_out {address.port_out}\n"
    )


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"pooling_strategy": 2}, "-pooling_strategy NONE"),
        ({"show_tokens_to_client": False}, "-show_tokens_to_client"),
    ],
)
def test_server_without_piece_vectors_is_refused_with_its_start_command(
    config: dict[str, object], missing: str, invoke: Command, text: Path, tmp_path: Path
) -> None:
    with StandIn(config=config) as server:
        done = invoke("embed", text, "-o", tmp_path / "out", "--server", str(server.address))
    assert done.returncode == 3
    assert f"was started without {missing}," in done.stderr
    assert (
        "bert-serving-start -model_dir toy -pooling_strategy NONE -show_tokens_to_client "
        f"-max_seq_len NONE -port {server.address.port} -port_out {server.address.port_out}"
    ) in done.stderr
    assert not (tmp_path / "out").exists()
