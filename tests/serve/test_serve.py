"""Our server as its users run it: options, clients, signals, faults, and many at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from bert_serving.client import BertClient, ConcurrentBertClient

from bert_tokemb import Address, ServerEncoder, embed, open_local
from bert_tokemb.serve.sockets import FRAME_LIMIT
from support.command import Command, load
from support.ours import OurServer, client_of
from support.seed import seed_embed
from support.tiny import write_tiny

pytestmark = pytest.mark.filterwarnings("ignore:server does not put a restriction")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def ours(model: Path) -> Iterator[OurServer]:
    """Gives the vectors of pieces, and logs every request."""
    with OurServer("--model", model, "--verbose") as server:
        yield server


@pytest.fixture
def client(ours: OurServer) -> Iterator[BertClient]:
    with client_of(ours.address) as client:
        yield client


class Raw:
    """A client that may send, and read, whatever it likes."""

    def __init__(self, address: Address, name: bytes = b"raw", *, reads: bool = True) -> None:
        self._context = zmq.Context()
        self.name = name
        self.sender = self._context.socket(zmq.PUSH)
        self.sender.connect(f"tcp://{address.host}:{address.port}")
        self.receiver = self._context.socket(zmq.SUB)
        self.receiver.rcvhwm = 1
        if reads:
            self.receiver.subscribe(name)
        self.receiver.connect(f"tcp://{address.host}:{address.port_out}")

    def send(self, *frames: bytes) -> None:
        self.sender.send_multipart(frames)

    def ask(self, texts: list[Any], number: int = 1) -> None:
        self.send(self.name, json.dumps(texts).encode(), b"%d" % number, b"%d" % len(texts))

    def receive(self, timeout: float = 60) -> list[bytes]:
        assert self.receiver.poll(timeout * 1000), "no reply"
        return self.receiver.recv_multipart()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.destroy(linger=0)


def wait_until(true: Callable[[], object], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def logged(server: OurServer, event: str, **more: Any) -> list[dict[str, Any]]:
    return [line for line in server.log if event in line["event"] and more.items() <= line.items()]


# --- The unmodified client --------------------------------------------------------------------


def test_every_way_to_ask(client: BertClient, model: Path) -> None:
    texts = ["hello world", "hank plays the", "a"]
    vectors, tokens = client.encode(texts, show_tokens=True)
    assert vectors.shape == (3, max(map(len, tokens)), 32)
    assert tokens[2] == ["[CLS]", "a", "[SEP]"]
    assert not vectors[2, 3:].any()
    with open_local(str(model)) as encoder:
        words = list(embed(texts, encoder, "last"))
    np.testing.assert_array_equal(vectors[2, 1], words[2][0])
    pretokenized = client.encode([piece[1:-1] for piece in tokens], is_tokenized=True)
    np.testing.assert_array_equal(pretokenized, vectors)
    for n in (1, 2, 3):
        client.encode(texts[:n], blocking=False)
    assert [len(reply) for reply in client.fetch_all()] == [1, 2, 3]
    batches = ([text] * 3 for text in texts)
    replies = sorted(client.encode_async(batches, delay=2), key=lambda reply: reply.id)
    assert [reply.embedding.shape for reply in replies] == [(3, len(own), 32) for own in tokens]
    assert client.server_status["statistic"]["num_total_seq"] >= 18


def test_concurrent_client(ours: OurServer) -> None:
    address = ours.address
    with ConcurrentBertClient(
        max_concurrency=3,
        ip=address.host,
        port=address.port,
        port_out=address.port_out,
        check_length=False,
    ) as client:
        assert client.encode(["a"]).shape == (1, 3, 32)


def test_the_seeds_method(client: BertClient) -> None:
    lines = ["hello world", "a b c"]
    assert [array.shape for array in seed_embed(client, lines, "last")] == [(2, 32), (3, 32)]


def test_settings(ours: OurServer, client: BertClient) -> None:
    config = client.server_config
    assert config["server_version"] == "1.10.0"
    assert config["bert_tokemb_version"]
    assert (config["pooling_strategy"], config["max_seq_len"]) == (0, None)
    assert config["verbose"] is True
    assert (config["show_tokens_to_client"], config["pooling_layer"]) == (True, [-2])
    assert (config["port"], config["port_out"]) == (ours.address.port, ours.address.port_out)


@pytest.mark.parametrize("options", [(), ("--max-seq-len", "64"), ("--layers", "0,-1")])
def test_embed_gives_what_the_engine_gives(
    options: tuple[str, ...], model: Path, run: Command, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    lines = ["Hello World !", "", "hank \u200b", "日本\N{SNOWMAN} a", "a ||| b", "the " * 62]
    text.write_text("\n".join(lines * 40))
    engine = tmp_path / "engine", tmp_path / "server"
    with OurServer("--model", model, *options) as server:
        asked = ("--server", server.address)
        more = () if "--max-seq-len" in options else options
        for output, encoder in zip(engine, (("--model", model, *more), asked), strict=True):
            done = run("embed", text, "-o", output, *encoder)
            assert done.returncode == 0, done.stderr
        assert server.log == []
    ours, theirs = map(load, engine)
    assert [array.shape for array in ours] == [array.shape for array in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_how_the_engine_is_run(model: Path, client: BertClient) -> None:
    """What is given to the server alone, and known by what it does."""
    vectors, threads = [], []
    for options in (("--threads", "1", "--precision", "int8"), ("--threads", "9")):
        with OurServer("--model", model, *options) as server:
            with client_of(server.address) as one:
                vectors.append(one.encode(["hello world"])[0])
            threads.append(len(list(Path(f"/proc/{server.process.pid}/task").iterdir())))
    (exact,) = client.encode(["hello world"])
    quick, same = np.abs(np.array(vectors) - exact).max(axis=(1, 2))
    assert same < 2e-5 < quick < 0.5
    assert threads[1] == threads[0] + 8


def test_a_sentence_beyond_the_limit(model: Path, run: Command, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a b\n" + "the " * 40)
    with OurServer("--model", model, "--max-seq-len", "20") as server:
        options = ("--server", server.address, "--long-sentences", "error")
        done = run("embed", text, "-o", tmp_path / "out", *options)
    assert done.returncode == 1
    assert "line 2 (40 words) has more pieces than the 18 that" in done.stderr


# --- Starting and ending ----------------------------------------------------------------------


def test_the_ready_file(model: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with OurServer("--model", model, "--ready-file", ready) as server:
        assert ready.read_text() == f"{server.address}\n"
        with ServerEncoder(server.address) as encoder:
            assert next(embed(["a"], encoder)).shape == (1, 32)
        assert server.stop() == 0
    assert not list(tmp_path.iterdir())


def test_the_ready_file_of_another(model: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with OurServer("--model", model, "--ready-file", ready) as server:
        ready.write_text("127.0.0.1:1:2\n")
        assert server.stop() == 0
    assert ready.read_text() == "127.0.0.1:1:2\n"


def test_a_ready_file_that_is_a_device(model: Path) -> None:
    """It is written to, and stays what it is."""
    before = Path(os.devnull).stat()
    with OurServer("--model", model, "--ready-file", os.devnull) as server:
        assert server.stop() == 0
    assert Path(os.devnull).stat().st_rdev == before.st_rdev != 0


def test_a_standard_output_that_is_full(model: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    ready = tmp_path / "ready"
    with OurServer("--model", model, "--ready-file", ready) as server:
        command = server.command
    ready.unlink(missing_ok=True)  # it was killed
    with subprocess.Popen(command, stdout=writer) as process:
        wait_until(ready.exists)
        host, port, port_out = ready.read_text().strip().split(":")
        with client_of(Address(host, int(port), int(port_out))) as client:
            client.encode(["a"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("output", [">&-", "| true"])
def test_no_standard_output(output: str, model: Path, tmp_path: Path) -> None:
    ready, told = tmp_path / "ready", tmp_path / "told"
    with OurServer("--model", model, "--ready-file", ready) as server:
        command = shlex.join(server.command)
    ready.unlink(missing_ok=True)  # it was killed
    # What runs it is as good as gone before it is ready.
    script = f"{{ sleep 0.5; exec {command} 2>{shlex.quote(str(told))}; }} {output} & wait"
    process = subprocess.Popen(["bash", "-c", script], start_new_session=True)
    try:
        wait_until(ready.exists)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    wait_until(lambda: not ready.exists())
    assert told.read_text() == ""


def test_nobody_reads_what_it_tells(model: Path) -> None:
    """Neither its standard output nor its log, of which more comes than a pipe holds."""
    with OurServer("--model", model, "--verbose") as server:
        command = server.command
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        _, address = process.stdout.readline().split()
        process.stdout.close()
        host, port, port_out = address.split(":")
        with client_of(Address(host, int(port), int(port_out))) as client:
            for _ in range(500):
                client.encode(["a"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_it_finish_first(signum: int, model: Path) -> None:
    texts = ["the " * 60] * 500
    with OurServer("--model", model, "--threads", "1", "--verbose") as server:
        with client_of(server.address) as client:
            for _ in range(4):
                client.encode(texts, blocking=False)
            wait_until(lambda: len(logged(server, "request")) == 4)
            server.process.send_signal(signum)
            replies = client.fetch_all()
            assert [reply.shape for reply in replies] == [(500, 62, 32)] * 4
            assert all(reply.any(axis=(1, 2)).all() for reply in replies)
            assert server.process.wait(60) == 0
    assert len(replies) == 4


def test_what_has_come_is_answered(model: Path) -> None:
    """Also what nobody has looked at yet when the signal comes."""
    with OurServer("--model", model, "--threads", "1") as server:
        with client_of(server.address) as client:
            client.encode(["a"])
            client.receiver.rcvtimeo = 20_000  # fetch_all() waits for ever
            server.process.send_signal(signal.SIGSTOP)
            for _ in range(300):
                client.encode(["a"], blocking=False)
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert len(client.fetch_all()) == 300
        assert server.process.wait(60) == 0


def test_a_second_signal_ends_it_at_once(model: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    options = ("--threads", "1", "--verbose", "--ready-file", ready)
    with OurServer("--model", model, *options) as server:
        with client_of(server.address) as client:
            for _ in range(50):
                client.encode(["hello world " * 20] * 500, blocking=False)
            wait_until(lambda: len(logged(server, "request")) == 50)
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: logged(server, "stopping"))
            assert not ready.exists()  # it serves no more
            time.sleep(0.3)  # or it would count as the same one
            assert server.stop(signal.SIGINT) == 130


def test_shutdown_by_a_client(model: Path) -> None:
    with OurServer("--model", model) as server, Raw(server.address) as raw:
        raw.send(b"0", b"TERMINATION", b"0", b"0")
        wait_until(lambda: logged(server, "TERMINATION refused"))
        with client_of(server.address) as client:
            client.encode(["a"])
    with OurServer("--model", model, "--allow-shutdown") as server, Raw(server.address) as raw:
        raw.send(b"0", b"TERMINATION", b"0", b"0")
        assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "give --model, or -model_dir"),
        (("--model", "MODEL", "-model_dir", "MODEL"), 2, "exclude each other"),
        (("-port", "1"), 2, "-port belongs to -model_dir"),
        (("-model_dir", "MODEL", "--layers", "-1"), 2, "give -pooling_layer"),
        (("-model_dir", "MODEL", "--port", "0"), 2, "give -port"),
        (("-model_dir", "MODEL", "-http_port", "8125"), 2, "-http_port is not supported"),
        (("-model_dir", "MODEL", "-fp16"), 2, "-fp16 is not supported"),
        (("-model_dir", "MODEL", "-pooling_strategy", "CLS_POOLED"), 2, "not supported"),
        (("-model_dir", "MODEL", "-pooling_strategy", "MEAN"), 2, "invalid choice"),
        (("-model_dir", "MODEL", "-max_seq_len", "3"), 2, "neither NONE nor a number of at least"),
        (
            ("-model_dir", "MODEL", "-port", "0", "-port_out", "0", "-max_seq_len", "65"),
            2,
            "more than the 64 pieces",
        ),
        (("-model_dir", "MODEL", "-max_batch_size", "0"), 2, "must be at least 1"),
        (("-model_dir", "MODEL", "-pooling_layer", "-4"), 2, "there is no layer -4"),
        (("-model_dir", "MODEL", "-nonsense"), 2, "no such option"),
        (("-model_dir", "./nowhere"), 4, "./nowhere"),
        (("-model_dir", "MODEL", "-ckpt_name", "x.ckpt"), 4, "bert_config.json"),
        (("--model", "MODEL", "--max-seq-len", "3"), 2, "3 is not in the range x>=4"),
        (("--model", "MODEL", "--host", "::1"), 2, "'::1' is no IPv4 address"),
        (("--model", "MODEL", "--ready-file", ""), 2, "--ready-file is empty"),
        (("--model", "MODEL", "--ready-file", "."), 1, "cannot write .: Is a directory"),
        (("-model_dir", "MODEL", "-port", "-1"), 2, "-port must be from 0 to 65535, not -1"),
        (("-model_dir", "MODEL", "-port_result", "65536"), 2, "-port_out must be from 0 to"),
        (("-model_dir", "MODEL", "-cpu", "--device", "cuda"), 2, "exclude each other"),
        (("--model", "MODEL", "--pooling-strategy", "CLS_POOLED"), 2, "is not one of"),
        (
            ("--model", "MODEL", "--host", "nowhere.invalid"),
            2,
            "is no IPv4 address of this machine",
        ),
        (("--model", "MODEL", "--host", "192.0.2.1"), 3, "cannot serve at 192.0.2.1"),
        (("--model", "MODEL", "--ready-file", "/nowhere/ready"), 1, "cannot write /nowhere/ready"),
        (("--model", "MODEL", "--ready-file", "/dev/full"), 1, "cannot write /dev/full: No space"),
    ],
)
def test_what_cannot_be_meant(
    options: tuple[str, ...], code: int, message: str, model: Path, run: Command
) -> None:
    variables = {"BERT_TOKEMB_PORT": "0", "BERT_TOKEMB_PORT_OUT": "0"}
    if "-model_dir" in options:
        variables = {}
    done = run(
        "serve", *(str(model) if part == "MODEL" else part for part in options), env=variables
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["LAYERS", "CASED", "MAX_SEQ_LEN", "PORT", "POOLING_STRATEGY"])
def test_variables_are_not_ignored_with_the_original_flags(
    name: str, model: Path, run: Command
) -> None:
    """Each would change something that a flag of the original changes, and does not."""
    value = "REDUCE_MEAN" if name == "POOLING_STRATEGY" else "4" if name != "CASED" else "1"
    done = run("serve", "-model_dir", model, env={f"BERT_TOKEMB_{name}": value})
    assert done.returncode == 2
    assert f"BERT_TOKEMB_{name} cannot be given with -model_dir: give -" in done.stderr


def test_help_beside_flags_of_the_original(run: Command) -> None:
    done = run("serve", "-model_dir", "x", "-h")
    assert done.returncode == 0
    assert "Usage: bert-tokemb serve" in done.stdout


@pytest.mark.parametrize("more", [(), ("--layers", "0,-1", "--max-seq-len", "20")])
def test_how_to_start_it_otherwise(more: tuple[str, ...], model: Path, run: Command) -> None:
    """What `embed` says starts a server that `embed` can use."""
    (model.parent / "text").write_text("a b\n")
    with OurServer("--model", model, "--pooling-strategy", "REDUCE_MEAN", *more) as server:
        asked = ("embed", model.parent / "text", "-o", os.devnull, "--server")
        done = run(*asked, server.address)
        assert done.returncode == 3
        advice = shlex.split(done.stderr.rpartition("start it with: ")[2])
        assert advice[:-4] == ["bert-tokemb", "serve", "--model", str(model), *more]
    with OurServer(*advice[2:-4]) as server:
        assert run(*asked, server.address).returncode == 0


def test_a_port_that_is_taken(ours: OurServer, model: Path, run: Command) -> None:
    taken = str(ours.address.port)
    done = run("serve", "--model", model, "--port", taken, "--port-out", "0")
    assert done.returncode == 3
    assert done.stderr.startswith(f"bert-tokemb: error: cannot serve at 127.0.0.1, port {taken} (")
    assert "is another server running?" in done.stderr


def test_all_flags_of_the_original(model: Path) -> None:
    flags = (
        *("-model_dir", model, "-max_seq_len", "None", "-pooling_layer", "-3", "-2", "-1"),
        *("-pooling_strategy", "NONE", "-show_tokens_to_client", "-num_worker", "4", "-cpu"),
        *("-gpu_memory_fraction", "0.3", "-device_map", "0", "1", "-prefetch_size", "3", "-xla"),
        *("-priority_batch_size", "8", "-cors", "*", "-http_max_connect", "3", "-verbose"),
        *("-graph_tmp_dir", "/nowhere", "-max_batch_size", "32"),
    )
    with OurServer(*flags) as server, client_of(server.address) as client:
        assert client.encode(["a"]).shape == (1, 3, 96)
        assert any(line["level"] == "info" for line in server.log)
        without_effect = [line["event"] for line in logged(server, "has no effect")]
    assert [line.split()[0] for line in without_effect] == [
        *("-cors", "-device_map", "-gpu_memory_fraction", "-graph_tmp_dir", "-http_max_connect"),
        *("-num_worker", "-prefetch_size", "-priority_batch_size", "-xla"),
    ]


@pytest.mark.parametrize(("settings", "flags", "cased"), [
    (None, (), False),
    ({"do_lower_case": False}, (), True),
    (None, ("-cased_tokenization",), True),
    (None, ("--model",), False),
    ({"do_lower_case": False}, ("--model",), True),
    (None, ("--cased", "--model"), True),
])  # fmt: skip
def test_what_is_cased(
    settings: dict[str, bool] | None, flags: tuple[str, ...], cased: bool, tmp_path: Path
) -> None:
    """A flag says so, or a directory of another layout than the original's says so itself."""
    directory = write_tiny(tmp_path / "model", settings=settings)
    if "--model" not in flags:
        flags = (*flags, "-pooling_strategy", "NONE", "-show_tokens_to_client", "-model_dir")
    with OurServer(*flags, directory) as server, client_of(server.address) as client:
        _, tokens = client.encode(["The the"], show_tokens=True)
        assert tokens == [["[CLS]", "[UNK]" if cased else "the", "the", "[SEP]"]]
        assert client.server_config["do_lower_case"] == (not cased)


def test_other_names_of_the_ports(model: Path) -> None:
    """The last one counts, as in the original."""
    with OurServer("-model_dir", model, "-port_in", "1", "-port_result", "1") as server:
        assert 1 not in (server.address.port, server.address.port_out)
    with OurServer("-model_dir", model, "-port_data", "1", "-port_out", "1") as server:
        with client_of(server.address) as client:
            assert client.encode(["hello " * 100]).shape == (1, 32)
            config = client.server_config
            assert (config["max_seq_len"], config["cpu"]) == (25, False)
        assert server.log == []


def test_the_version_of_the_original(run: Command) -> None:
    done = run("serve", "-version")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.10.0" in done.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])  # noqa: S104 - what is tested
def test_an_address_that_others_can_reach(host: str, model: Path) -> None:
    with OurServer("--model", model, "--host", host) as server:
        (warning,) = server.log
        assert "no authentication" in warning["event"]
        assert (warning["level"], warning["host"]) == ("warning", "0.0.0.0")  # noqa: S104
        with client_of(
            Address("127.0.0.1", *map(int, str(server.address).split(":")[1:]))
        ) as client:
            client.encode(["a"])


def test_it_listens_on_loopback_alone(ours: OurServer) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()
    for port in (ours.address.port, ours.address.port_out):
        (line,) = [line for line in listening if f":{port:04X} 00000000:0000 0A" in line]
        assert line.split()[1].startswith("0100007F:")


# --- Requests that are none -------------------------------------------------------------------

GARBAGE: dict[str, tuple[bytes, ...]] = {
    "one frame": (b"x",),
    "three frames": (b"raw", b'["a"]', b"1"),
    "five frames": (b"raw", b'["a"]', b"1", b"1", b""),
    "no name": (b"", b'["a"]', b"1", b"1"),
    "a long name": (b"raw" * 100, b'["a"]', b"1", b"1"),
    "no number": (b"raw", b'["a"]', b"x", b"1"),
    "a huge number": (b"raw", b'["a"]', b"9" * 5000, b"1"),
    "no count": (b"raw", b'["a"]', b"7", b"-1"),
    "a count that is none": (b"raw", b'["a"]', b"7", b"x"),
    "a wrong count": (b"raw", b'["a"]', b"7", b"2"),
    "no JSON": (b"raw", b"[", b"7", b"1"),
    "brackets": (b"raw", b"[" * 100_000, b"7", b"1"),
    "binary": (b"raw", bytes(range(256)) * 100, b"7", b"1"),
    "nothing": (b"raw", b"", b"7", b"1"),
    "no list": (b"raw", b'{"a": 1}', b"7", b"1"),
    "an empty list": (b"raw", b"[]", b"7", b"0"),
    "numbers": (b"raw", b"[1, 2]", b"7", b"2"),
    "mixed": (b"raw", b'["a", ["b"]]', b"7", b"2"),
    "lists of numbers": (b"raw", b"[[1], [2]]", b"7", b"2"),
    "null": (b"raw", b"null", b"7", b"1"),
    "an empty list of pieces in a pair": (b"raw", b"[[null]]", b"7", b"1"),
    "huge": (b"raw", b'["a"]' + b" " * FRAME_LIMIT, b"7", b"1"),
    "many": (b"raw", b"[" + b'"",' * (1 << 20) + b'""]', b"7", b"%d" % ((1 << 20) + 1)),
    "a command in lower case": (b"raw", b"show_config", b"7", b"1"),
}


@pytest.mark.parametrize("frames", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_dropped(frames: tuple[bytes, ...], ours: OurServer, client: BertClient) -> None:
    before = len(logged(ours, "malformed request dropped"))
    with Raw(ours.address) as raw:
        raw.send(*frames)
        wait_until(lambda: len(logged(ours, "malformed request dropped")) == before + 1)
        # Whoever can be told, is.
        if len(frames) == 4 and frames[0] == b"raw" and frames[2] == b"7":
            name, info, data, number = raw.receive()
            assert (name, data, number) == (b"raw", b"", b"7")
            assert json.loads(info)["error"]
    assert client.encode(["a"]).shape == (1, 3, 32)


def test_a_frame_that_is_larger_still(ours: OurServer, client: BertClient) -> None:
    """Its sender is cut off; nobody else notices."""
    with Raw(ours.address) as raw:
        raw.send(b"raw", b" " * (5 * FRAME_LIMIT), b"7", b"1")
        for _ in range(20):
            assert client.encode(["a"]).shape == (1, 3, 32)


def test_an_error_is_told_at_once(model: Path) -> None:
    """It costs this request, and no other."""
    flags = ("-no_special_token", "-pooling_strategy", "LAST_TOKEN")
    with OurServer("-model_dir", model, *flags) as server:
        with client_of(server.address) as client, client_of(server.address) as other:
            number = client._send(b'[["a"], []]', 2)
            client.receiver.setsockopt(zmq.RCVTIMEO, 60_000)
            with pytest.raises(KeyError):
                client._recv_ndarray(number)
            assert other.encode(["a b"]).shape == (1, 32)
            assert client.encode(["a b"]).shape == (1, 32)
        (line,) = logged(server, "request failed")
        assert "is masked" in line["reason"]


def test_an_answer_that_would_be_too_large(ours: OurServer, client: BertClient) -> None:
    with pytest.raises(KeyError):
        client.encode(["a " * 60] * 300_000)
    wait_until(lambda: "GB" in str(logged(ours, "request failed")))
    assert client.encode(["a"]).shape == (1, 3, 32)


# --- Clients that do not read -----------------------------------------------------------------


def test_a_client_that_asks_before_it_can_read(ours: OurServer) -> None:
    with Raw(ours.address, b"late", reads=False) as raw:
        raw.ask(["a"])
        wait_until(lambda: logged(ours, "reply", sender="late#1"))
        raw.receiver.subscribe(b"late")
        assert raw.receive()[3] == b"1"


def test_nobody_can_unsubscribe_another(ours: OurServer, client: BertClient) -> None:
    client.encode(["a"])
    context = zmq.Context()
    with context.socket(zmq.XSUB) as forger:
        forger.linger = 0
        forger.connect(f"tcp://{ours.address.host}:{ours.address.port_out}")
        for kind in (b"\2", b"\0", b"\xff", b""):
            forger.send(kind + client.identity)
        time.sleep(0.3)
        client.timeout = 5000  # a reply to nobody would come, but late
        assert client.encode(["a"]).shape == (1, 3, 32)
    context.term()


def test_many_marks_on_a_letter_hold_nobody_up(ours: OurServer, client: BertClient) -> None:
    """Putting them into order took a time that grew with their square: here 15 s."""
    with client_of(ours.address) as other:
        other.encode(["a" + "\u0301\u0327" * 75_000], blocking=False)
        wait_until(lambda: logged(ours, "request", sentences=1))
        other.receiver.rcvtimeo = 5000  # its own timeout is not for fetch()
        assert next(other.fetch()).embedding.shape == (1, 3, 32)


def test_a_long_text_is_split_no_further_than_needed(client: BertClient) -> None:
    vectors, ((*pieces,),) = client.encode(["a " * 5_000_000], show_tokens=True)
    assert vectors.shape == (1, 64, 32)
    assert pieces == ["[CLS]", *["a"] * 62, "[SEP]"]


def test_a_client_that_is_gone(ours: OurServer, client: BertClient) -> None:
    with Raw(ours.address, b"gone") as raw:
        raw.ask(["a"])
        raw.receive()
        for number in range(2, 30):
            raw.ask(["the " * 60] * 20_000, number)
        wait_until(lambda: logged(ours, "request", sender="gone#29"))
    assert client.encode(["a"]).shape == (1, 3, 32)
    # What it has asked for is not computed to the end.
    wait_until(lambda: logged(ours, "requests dropped: their client is gone", client="gone"))
    assert not logged(ours, "reply", sender="gone#29")


def resident(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))


def test_a_client_that_never_reads(model: Path) -> None:
    """256 MB are kept for it, all of which it can have; others do not notice."""
    # 64 pieces of 96 floats, 400 times: 9.8 MB.
    texts = ["the " * 62] * 400
    with OurServer("--model", model, "--layers", "0,1,2", "--verbose") as server:
        before = resident(server.process)
        with Raw(server.address, b"mute") as raw, client_of(server.address) as client:
            for number in range(60):
                raw.ask(texts, number)
            # It is told of each, when it reads.
            wait_until(lambda: len(logged(server, "reply")) + len(logged(server, "refused")) == 60)
            assert client.encode(["a"]).shape == (1, 3, 96)
            dropped = logged(server, "replies dropped: their client does not read")
            assert len(dropped) == 1
            assert 240e6 < dropped[0]["bytes"] <= 256e6
            assert resident(server.process) - before < 256e6 + 150e6
            replies = [raw.receive() for _ in range(60)]
            assert {int(reply[3]) for reply in replies} == set(range(60))
            whole = [reply for reply in replies if len(reply[2]) == 400 * 64 * 96 * 4]
            assert 25 <= len(whole) <= 30  # and what the sockets hold
            assert all("error" in json.loads(r[1]) for r in replies if not r[2])
            assert len(whole) + sum(not reply[2] for reply in replies) == 60
            wait_until(lambda: logged(server, "client reads again"))
            raw.ask(texts, 99)
            assert raw.receive()[3] == b"99"
            wait_until(lambda: resident(server.process) - before < 100e6)


def test_a_small_request_overtakes_a_large_one(model: Path) -> None:
    with OurServer("--model", model, "--threads", "1", "--verbose") as server:
        with client_of(server.address) as one, client_of(server.address) as other:
            one.encode(["the " * 40] * 20_000, blocking=False)
            wait_until(lambda: logged(server, "request"))
            other.encode(["a"])
            one.encode(["a b"], blocking=False)
            assert next(one.fetch()).embedding.shape == (1, 4, 32)
            wait_until(lambda: len(logged(server, "reply")) == 2)
            assert next(one.fetch()).embedding.shape == (20_000, 42, 32)


def test_64_clients_at_once(ours: OurServer, model: Path) -> None:
    """Every reply is right, none is lost, memory does not grow."""
    rounds = int(os.environ.get("BERT_TOKEMB_TEST_ROUNDS", "20"))
    texts = [["hello world " * (1 + i % 5) + "a " * (i % 13)] * (1 + i % 3) for i in range(64)]
    with open_local(str(model)) as encoder:
        expected = [next(embed([own[0]], encoder, "first")) for own in texts]
    wrong: list[str] = []

    def work(i: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with client_of(ours.address) as client:
                for number in range(rounds):
                    vectors = client.encode(texts[i])
                    if len(vectors) != len(texts[i]) or not np.allclose(
                        vectors[-1, 1], expected[i][0], rtol=0, atol=2e-5
                    ):
                        wrong.append(f"client {i}, request {number}")
        finished.append(i)

    finished: list[int] = []
    sizes = []
    for _ in range(3):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        sizes.append(resident(ours.process))
    assert not wrong
    assert len(finished) == 3 * 64
    assert sizes[2] - sizes[0] < 30e6
