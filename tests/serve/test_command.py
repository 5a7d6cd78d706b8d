"""``bert-tokemb serve``: its options, the flags of bert-serving-start, and its errors."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb import Address, ServerEncoder, embed, open_local
from bert_tokemb.cli.launch import resolve_host
from bert_tokemb.cli.original_flags import POOLING_STRATEGIES
from bert_tokemb.errors import LongSentenceError
from bert_tokemb.serve.pooling import Pooling
from support.client import connect
from support.command import Command
from support.ours import OurServer, invoke_serve, serve_command, wait_until
from support.tiny import write_tiny


def log_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


# --- Options ----------------------------------------------------------------------------------


def test_serve_announces_itself_and_stops_cleanly(shared_tiny: Path) -> None:
    addresses = []
    done = invoke_serve(addresses.append, "-m", shared_tiny)
    assert done.stdout == f"ready {addresses[0]}\n"
    assert done.returncode == 0
    assert done.stderr == ""


def test_verbose_logs_every_request(shared_tiny: Path) -> None:
    def client(address: Address) -> None:
        with connect(address) as client:
            client.encode(["a", "b"])

    lines = log_of(invoke_serve(client, "--model", shared_tiny, "--verbose"))
    assert {line["level"] for line in lines} == {"info"}
    assert [line["event"] for line in lines] == [
        *("command", "request", "reply", "command"),
        "stopping",
    ]
    assert (lines[0]["command"], lines[-2]["command"]) == ("SHOW_CONFIG", "TERMINATION")
    assert lines[1]["sentences"] == lines[2]["sentences"] == 2
    assert lines[1]["sender"] == lines[2]["sender"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])


def test_server_config_reports_options(shared_tiny: Path) -> None:
    configs = []

    def client(address: Address) -> None:
        with connect(address) as client:
            configs.append(client.server_config)
        configs.append(address)

    invoke_serve(client, "--model", shared_tiny, "--verbose")
    config, address = configs
    assert config["server_version"] == "1.10.0"
    assert config["bert_tokemb_version"]
    assert config["bert_tokemb_model"] == config["model_dir"] == str(shared_tiny)
    assert (config["pooling_strategy"], config["max_seq_len"]) == (0, None)
    assert (config["verbose"], config["show_tokens_to_client"]) == (True, True)
    assert (config["pooling_layer"], config["do_lower_case"]) == ([-2], True)
    assert (config["port"], config["port_out"]) == (address.port, address.port_out)


@pytest.mark.parametrize("options", [(), ("--max-seq-len", "64"), ("--layers", "0,-1")])
def test_served_vectors_are_those_of_the_engine(
    options: tuple[str, ...], shared_tiny: Path
) -> None:
    lines = ["Hello World !", "", "hank \u200b", "日本\N{SNOWMAN} a", "a ||| b", "the " * 62] * 40
    layers = (0, -1) if "--layers" in options else (-2,)
    served: list[np.ndarray] = []

    def client(address: Address) -> None:
        with ServerEncoder(address) as encoder:
            served.extend(embed(lines, encoder))

    done = invoke_serve(client, "--model", shared_tiny, *options)
    assert done.stderr == ""
    with open_local(str(shared_tiny), layers=layers) as encoder:
        computed = list(embed(lines, encoder))
    assert [array.shape for array in served] == [array.shape for array in computed]
    for a, b in zip(served, computed, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_max_seq_len_limits_sentences(shared_tiny: Path) -> None:
    def client(address: Address) -> None:
        with ServerEncoder(address, long_sentences="error") as encoder:
            assert next(embed(["the " * 18], encoder)).shape == (18, 32)
            with pytest.raises(LongSentenceError, match=r"\(40 words\) .* than the 18 that"):
                next(embed(["the " * 40], encoder))

    invoke_serve(client, "--model", shared_tiny, "--max-seq-len", "20")


def test_engine_options_take_effect(shared_tiny: Path) -> None:
    vectors, threads = [], []

    def client(address: Address) -> None:
        names = [thread.name for thread in threading.enumerate()]
        threads.append(max(int(name[7:]) for name in names if name.startswith("engine-")) + 1)
        with connect(address) as client:
            vectors.append(client.encode(["hello world"])[0])

    for options in (("--threads", "1", "--precision", "int8"), ("--threads", "9")):
        invoke_serve(client, "--model", shared_tiny, *options)
    assert threads[1] == 9
    assert 2e-5 < np.abs(vectors[0] - vectors[1]).max() < 0.5
    with open_local(str(shared_tiny)) as encoder:
        exact = next(embed(["hello world"], encoder))
    np.testing.assert_allclose(vectors[1][1:3], exact, rtol=0, atol=2e-5)


def test_options_are_read_from_the_environment(shared_tiny: Path) -> None:
    def client(address: Address) -> None:
        with connect(address) as client:
            assert client.encode(["a"]).shape == (1, 64)

    env = {"BERT_TOKEMB_POOLING_STRATEGY": "REDUCE_MEAN_MAX"}
    done = invoke_serve(client, "--model", shared_tiny, env=env)
    assert done.returncode == 0


def test_pooling_strategies_are_those_of_the_server() -> None:
    assert set(POOLING_STRATEGIES) == set(Pooling.__members__)


# --- The address ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])  # noqa: S104 - what is tested
def test_serve_warns_of_addresses_that_others_can_reach(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve_host(host) == "0.0.0.0"  # noqa: S104
    (record,) = caplog.records
    assert "neither encryption nor authentication" in record.message
    assert (record.levelname, record.host) == ("WARNING", "0.0.0.0")  # noqa: S104


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_serve_does_not_warn_of_loopback(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_host(host).startswith("127.")
    assert not caplog.records


def test_serve_reports_a_port_that_is_taken(shared_tiny: Path, invoke: Command) -> None:
    with OurServer("--model", shared_tiny) as server:
        taken = str(server.address.port)
        done = invoke("serve", "--model", shared_tiny, "--port", taken, "--port-out", "0")
    assert done.returncode == 3
    assert done.stderr == (
        f"bert-tokemb: error: cannot listen on 127.0.0.1, port {taken}: Address already in use; "
        "another server may be running there; port 0 chooses a free port\n"
    )


# --- The ready file ---------------------------------------------------------------------------


def serve_with_ready_file(ready: Path, model: Path, replacement: str = "") -> None:
    """Serve with a ready file, whose content a client may replace."""

    def client(address: Address) -> None:
        assert ready.read_text() == f"{address}\n"
        with connect(address) as client:
            client.encode(["a"])
        if replacement:
            ready.write_text(replacement)

    done = invoke_serve(client, "--model", model, ready_file=ready)
    assert done.returncode == 0


def test_ready_file_exists_while_the_server_is_ready(shared_tiny: Path, tmp_path: Path) -> None:
    serve_with_ready_file(tmp_path / "ready", shared_tiny)
    assert not list(tmp_path.iterdir())


def test_ready_file_of_another_server_is_kept(shared_tiny: Path, tmp_path: Path) -> None:
    serve_with_ready_file(tmp_path / "ready", shared_tiny, replacement="127.0.0.1:1:2\n")
    assert (tmp_path / "ready").read_text() == "127.0.0.1:1:2\n"


def test_ready_file_may_be_a_device(shared_tiny: Path) -> None:
    before = Path(os.devnull).stat()
    with OurServer("--model", shared_tiny, "--ready-file", os.devnull) as server:
        assert server.stop() == 0
    assert Path(os.devnull).stat().st_rdev == before.st_rdev != 0


def test_ready_file_is_removed_through_a_link(shared_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "ready")
    serve_with_ready_file(tmp_path / "link", shared_tiny)
    assert not (tmp_path / "ready").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other", "exists and is no ready file: remove it, or give another path"),
        ("pipe", "is a pipe: give the path of a file"),
        ("running", "belongs to the server that is running at 127.0.0.1:"),
    ],
)
def test_ready_file_must_not_be_anything_else(
    kind: str, message: str, shared_tiny: Path, tmp_path: Path, invoke: Command
) -> None:
    ready = tmp_path / "ready"
    with socket.create_server(("127.0.0.1", 0)) as running:
        content = f"127.0.0.1:{running.getsockname()[1]}:1\n"
        if kind == "pipe":
            os.mkfifo(ready)
        else:
            ready.write_text(content if kind == "running" else "important\n")
        done = invoke("serve", "--model", shared_tiny, "--ready-file", ready)
    assert done.returncode == 2
    assert f"bert-tokemb: error: --ready-file {ready} {message}" in done.stderr
    assert kind == "pipe" or ready.read_text() in (content, "important\n")


def test_stale_ready_file_is_replaced(shared_tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("127.0.0.1:1:2\n")
    with OurServer("--model", shared_tiny, "--ready-file", tmp_path / "ready") as server:
        assert (tmp_path / "ready").read_text() == f"{server.address}\n"
        assert server.stop() == 0


def test_ready_line_that_cannot_be_printed_is_logged(shared_tiny: Path, tmp_path: Path) -> None:
    command = serve_command("--model", shared_tiny, "--ready-file", tmp_path / "ready")
    with (
        open("/dev/full", "w") as full,  # noqa: PTH123
        subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True) as process,
    ):
        wait_until((tmp_path / "ready").exists)
        line = process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0
    assert json.loads(line)["event"] == "cannot print that the server is ready"


# --- Errors -----------------------------------------------------------------------------------

PORTS = ("-port", "0", "-port_out", "0")

ERRORS: list[tuple[tuple[str, ...], int, str]] = [
    ((), 2, "give --model, or -model_dir"),
    (("--model", "MODEL", "-model_dir", "MODEL"), 2, "exclude each other"),
    (("-m", "MODEL", "-model_dir", "MODEL"), 2, "exclude each other"),
    (("-port", "1"), 2, "-port needs -model_dir"),
    (("-m", "MODEL", "-cpu"), 2, "-cpu needs -model_dir"),
    (("-model_dir", "MODEL", "--layers", "-1"), 2, "give -pooling_layer"),
    (("-model_dir", "MODEL", "--port", "0"), 2, "give -port"),
    (("-model_dir", "MODEL", "-http_port", "8125"), 2, "-http_port is not supported"),
    (("-model_dir", "MODEL", "-fp16"), 2, "-fp16 is not supported"),
    (("-model_dir", "MODEL", "-pooling_strategy", "CLS_POOLED"), 2, "not supported"),
    (("-model_dir", "MODEL", "-pooling_strategy", "MEAN"), 2, "invalid choice"),
    (("-model_dir", "MODEL", "-max_seq_len", "3"), 2, "neither NONE nor a number of at least"),
    (("-model_dir", "MODEL", *PORTS, "-max_seq_len", "65"), 2, "more than the 64 pieces"),
    (("-model_dir", "MODEL", "-max_batch_size", "0"), 2, "must be at least 1"),
    (("-model_dir", "MODEL", "-pooling_layer", "-4"), 2, "there is no layer -4"),
    (("-model_dir", "MODEL", "-nonsense"), 2, "o such option"),
    (("-m./nowhere",), 4, "./nowhere"),
    (("-nonsense",), 2, "o such option"),
    (("-model_dir", "./nowhere"), 4, "./nowhere"),
    (("-model_dir", "MODEL", "-ckpt_name", "x.ckpt"), 4, "bert_config.json"),
    (("-model_dir", "MODEL", "-port", "-1"), 2, "-port must be from 0 to 65535, not -1"),
    (("-model_dir", "MODEL", "-port_result", "65536"), 2, "-port_out must be from 0 to"),
    (("-model_dir", "MODEL", "-cpu", "--device", "cuda"), 2, "exclude each other"),
    (("--model", "MODEL", "--max-seq-len", "3"), 2, "3 is not in the range x>=4"),
    (("--model", "MODEL", "--pooling-strategy", "CLS_POOLED"), 2, "is not one of"),
    (("--model", "MODEL", "--host", "::1"), 2, "'::1' is not an IPv4 address of this machine"),
    (("--model", "MODEL", "--host", "nowhere.invalid"), 2, "is not an IPv4 address"),
    (("--model", "MODEL", "--host", "192.0.2.1"), 3, "cannot listen on 192.0.2.1"),
    (("--model", "MODEL", "--ready-file", ""), 2, "--ready-file is empty"),
    (("--model", "MODEL", "--ready-file", "."), 1, "cannot write .: Is a directory"),
    (("--model", "MODEL", "--ready-file", "/nowhere/ready"), 1, "cannot write /nowhere/ready"),
    (("--model", "MODEL", "--ready-file", "/dev/full"), 1, "cannot write /dev/full: No space"),
]


@pytest.mark.parametrize(
    ("options", "code", "message"), ERRORS, ids=[" ".join(options) for options, *_ in ERRORS]
)
def test_serve_reports_errors_without_traceback(
    options: tuple[str, ...], code: int, message: str, shared_tiny: Path, invoke: Command
) -> None:
    env = {"BERT_TOKEMB_PORT": "0", "BERT_TOKEMB_PORT_OUT": "0"}
    done = invoke(
        "serve",
        *(str(shared_tiny) if part == "MODEL" else part for part in options),
        env={} if "-model_dir" in options else env,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["LAYERS", "CASED", "MAX_SEQ_LEN", "PORT", "POOLING_STRATEGY"])
def test_variables_are_not_ignored_with_original_flags(
    name: str, shared_tiny: Path, invoke: Command
) -> None:
    value = "REDUCE_MEAN" if name == "POOLING_STRATEGY" else "4" if name != "CASED" else "1"
    done = invoke("serve", "-model_dir", shared_tiny, env={f"BERT_TOKEMB_{name}": value})
    assert done.returncode == 2
    assert f"BERT_TOKEMB_{name} cannot be given with -model_dir: give -" in done.stderr


# --- The flags of bert-serving-start ----------------------------------------------------------


def test_help_is_shown_next_to_original_flags(invoke: Command) -> None:
    done = invoke("serve", "-model_dir", "x", "-h")
    assert done.returncode == 0
    assert "Usage: bert-tokemb serve" in done.stdout


def test_help_starts_with_examples(invoke: Command) -> None:
    done = invoke("serve", "--help")
    assert 0 < done.stdout.index("bert-tokemb serve -m ") < done.stdout.index("--host")


def test_original_version_is_shown(invoke: Command) -> None:
    done = invoke("serve", "-version")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.10.0" in done.stdout


def test_original_flags_are_all_accepted(shared_tiny: Path) -> None:
    flags = (
        *("-model_dir", shared_tiny, "-max_seq_len", "None", "-pooling_layer", "-3", "-2", "-1"),
        *("-pooling_strategy", "NONE", "-show_tokens_to_client", "-num_worker", "4", "-cpu"),
        *("-gpu_memory_fraction", "0.3", "-device_map", "0", "1", "-prefetch_size", "3", "-xla"),
        *("-priority_batch_size", "8", "-cors", "*", "-http_max_connect", "3", "-verbose"),
        *("-graph_tmp_dir", "/nowhere", "-max_batch_size", "32"),
    )

    def client(address: Address) -> None:
        with connect(address) as client:
            assert client.encode(["a"]).shape == (1, 3, 96)

    lines = log_of(invoke_serve(client, *flags))
    assert any(line["level"] == "info" for line in lines)
    notes = [line["event"] for line in lines if "has no effect" in line["event"]]
    assert [note.split()[0] for note in notes] == [
        *("-cors", "-device_map", "-gpu_memory_fraction", "-graph_tmp_dir", "-http_max_connect"),
        *("-num_worker", "-prefetch_size", "-priority_batch_size", "-xla"),
    ]


@pytest.mark.parametrize(
    "flags",
    [
        ("-port_in", "1", "-port_result", "1"),
        ("-port_data", "1", "-port_out", "1"),
    ],
)
def test_original_ports_have_aliases_of_which_the_last_counts(
    flags: tuple[str, ...], shared_tiny: Path
) -> None:
    def client(address: Address) -> None:
        assert 1 not in (address.port, address.port_out)

    done = invoke_serve(client, "-model_dir", shared_tiny, *flags)
    assert (done.returncode, done.stderr) == (0, "")


def test_original_flags_have_original_defaults(shared_tiny: Path) -> None:
    def client(address: Address) -> None:
        with connect(address) as client:
            assert client.encode(["hello " * 100]).shape == (1, 32)
            config = client.server_config
            assert (config["max_seq_len"], config["cpu"]) == (25, False)
            assert "bert_tokemb_model" not in config

    assert invoke_serve(client, "-model_dir", shared_tiny).stderr == ""


@pytest.mark.parametrize(
    ("settings", "flags", "cased"),
    [
        (None, (), False),
        ({"do_lower_case": False}, (), True),
        (None, ("-cased_tokenization",), True),
        (None, ("--model",), False),
        ({"do_lower_case": False}, ("--model",), True),
        (None, ("--cased", "--model"), True),
    ],
)
def test_case_is_determined_by_flag_or_model(
    settings: dict[str, bool] | None, flags: tuple[str, ...], cased: bool, tmp_path: Path
) -> None:
    directory = write_tiny(tmp_path / "model", settings=settings)
    if "--model" not in flags:
        flags = (*flags, "-pooling_strategy", "NONE", "-show_tokens_to_client", "-model_dir")

    def client(address: Address) -> None:
        with connect(address) as client:
            _, tokens = client.encode(["The the"], show_tokens=True)
            assert tokens == [["[CLS]", "[UNK]" if cased else "the", "the", "[SEP]"]]
            assert client.server_config["do_lower_case"] == (not cased)

    assert invoke_serve(client, *flags, directory).returncode == 0


@pytest.mark.parametrize(
    "options",
    [("--layers", "0,-1", "--max-seq-len", "20"), pytest.param((), marks=pytest.mark.slow)],
)
def test_advice_of_embed_starts_a_suitable_server(
    options: tuple[str, ...], shared_tiny: Path, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a b\n")
    command = ("embed", tmp_path / "text", "-o", tmp_path / "out", "--server")
    unsuitable = ("--pooling-strategy", "REDUCE_MEAN")
    with OurServer("--model", shared_tiny, *unsuitable, *options) as server:
        done = invoke(*command, server.address)
    assert done.returncode == 3
    advice = shlex.split(done.stderr.rpartition("start it with: ")[2])
    start, ports = advice[:-4], advice[-4:]
    assert start == ["bert-tokemb", "serve", "--model", str(shared_tiny), *options]
    assert ports == [
        *("--port", str(server.address.port), "--port-out", str(server.address.port_out))
    ]
    with OurServer(*start[2:]) as server:
        assert invoke(*command, server.address).returncode == 0
