"""The encoder with the genuine bert-serving-server 1.10.0.

The fast tests share one server with those of other folders. The replies that other fast tests need
are recorded; see :mod:`support.recording`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bert_tokemb import ServerEncoder, embed
from bert_tokemb.encoders.server.sentences import as_text
from bert_tokemb.errors import LongSentenceError, ServerError
from bert_tokemb.types import Sentence
from support.client import connect
from support.command import Command, load
from support.genuine import NONE, GenuineServer
from support.recording import LONE, NEWER, SCENARIOS, Recording, record
from support.seed import seed_embed
from support.texts import random_words

pytestmark = pytest.mark.xdist_group("genuine")

ROOT = Path(__file__).parents[2]


def pieces_of(server: GenuineServer, texts: list[str]) -> list[list[str]]:
    """Return the pieces of each text, with the original client alone."""
    with connect(server.address) as client:
        _, pieces = client.encode(texts, show_tokens=True)
    return [own[1:-1] for own in pieces]


def plain_text() -> list[str]:
    """Return plain English in ASCII, where the seed's method loses no word."""
    text = (ROOT / "LICENSE").read_text("ascii")
    return [line for line in text.splitlines() if line.split()]


# --- Fast: one server -------------------------------------------------------------------------


def test_example_is_embedded_by_the_genuine_server(
    server_none: GenuineServer, invoke: Command, tmp_path: Path
) -> None:
    output = tmp_path / "output.pkl"
    example = ROOT / "examples" / "input.txt"
    done = invoke("embed", example, "-o", output, "--server", str(server_none.address))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"2 sentences, 5 words -> {output}" in done.stderr
    arrays = load(output)
    assert type(arrays) is list
    assert [(a.shape, a.dtype) for a in arrays] == [((3, 32), np.float32), ((2, 32), np.float32)]


def assert_recorded(server: GenuineServer, name: str) -> None:
    """Check that the server replies as recorded, also with other texts in the same request."""
    recorded = Recording.load(name)
    with connect(server.address) as client:
        found = record(client, SCENARIOS[name])
        together, _ = client.encode(["hello " * 30, "I'm hankcs"], show_tokens=True)
    assert found.config == recorded.config
    assert found.replies.keys() == recorded.replies.keys()
    for text, (pieces, vectors) in recorded.replies.items():
        assert found.replies[text][0] == pieces
        np.testing.assert_allclose(found.replies[text][1], vectors, rtol=0, atol=2e-5)
    if name == "uncased":
        _, vectors = recorded(["I'm hankcs"])
        np.testing.assert_allclose(together[1, :7], vectors[0], rtol=0, atol=2e-5)
        assert not together[1, 7:].any()


def test_server_replies_as_recorded(server_none: GenuineServer) -> None:
    assert_recorded(server_none, "uncased")


def test_vectors_equal_those_of_the_seed(server_none: GenuineServer) -> None:
    lines = [line for line in plain_text() if line.replace(" ", "").isalpha()]
    assert len(lines) > 20
    with connect(server_none.address) as client, ServerEncoder(server_none.address) as encoder:
        for strategy in ("last", "avg"):
            theirs = list(seed_embed(client, lines, strategy))
            ours = list(embed(lines, encoder, strategy))
            assert [a.shape for a in ours] == [a.shape for a in theirs]
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


# --- Slow: the matrix of settings, and servers that die ---------------------------------------


@pytest.mark.slow
def test_cased_server_replies_as_recorded(server_cased: GenuineServer) -> None:
    assert_recorded(server_cased, "cased")


@pytest.mark.slow
def test_server_with_a_fixed_length_replies_as_recorded(server_32: GenuineServer) -> None:
    assert_recorded(server_32, "32")


@pytest.mark.slow
def test_server_with_several_layers_replies_as_recorded(uncased_model: Path) -> None:
    options = ("-model_dir", uncased_model, *NONE, *SCENARIOS["layers"].options)
    with GenuineServer(*options) as server:
        assert_recorded(server, "layers")


@pytest.mark.slow
@pytest.mark.parametrize("cased", [False, True])
def test_words_of_any_characters_have_the_pieces_of_the_server(
    cased: bool, server_none: GenuineServer, server_cased: GenuineServer
) -> None:
    """In a sentence, each word has the pieces that the server returns for it alone."""
    server = server_cased if cased else server_none
    words = random_words(Random(2019), 3000)
    alone = pieces_of(server, [as_text([word]) for word in words])
    sentences = [Sentence(i, words[i : i + 6]) for i in range(0, len(words), 6)]
    with ServerEncoder(server.address) as encoder:
        prepared = [encoder.prepare(sentence) for sentence in sentences]
        batches = [prepared[i : i + 32] for i in range(0, len(prepared), 32)]
        encoded = list(encoder.encode(batches))
    assert [n for one in encoded for n in one.counts.tolist()] == list(map(len, alone))
    assert [u for one in encoded for u in one.unknown] == ["[UNK]" in own for own in alone]
    assert not any(one.inexact for one in encoded)


@pytest.mark.slow
@pytest.mark.parametrize(("max_seq_len", "tolerance"), [("48", 0.0), ("NONE", 2e-5)])
def test_vectors_of_a_real_model_equal_those_of_the_seed(
    max_seq_len: str, tolerance: float, real_model: Path
) -> None:
    """Only `last` with a fixed length is equal bit for bit; other vectors differ by up to 2e-5."""
    lines = plain_text()
    options = ("-model_dir", real_model, *NONE, "-max_seq_len", max_seq_len)
    with (
        GenuineServer(*options) as server,
        connect(server.address) as client,
        ServerEncoder(server.address) as encoder,
    ):
        for strategy in ("last", "avg"):
            theirs = list(seed_embed(client, lines, strategy))
            ours = list(embed(lines, encoder, strategy))
            assert [len(a) for a in ours] == [len(line.split()) for line in lines]
            assert [a.shape for a in ours] == [a.shape for a in theirs]
            difference = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
            assert difference <= (tolerance if strategy == "last" else 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "a " * 63,
        "!" * 63,
        "a" * 63,
        "!" * 63 + " " + LONE,
        "a " * 62 + f"{NEWER} b",
        f"{NEWER} " * 9 + "a " * 63,
        NEWER + "!" * 63,
        "東 " * 63,
        "hello " * 5000,
    ],
    ids=lambda line: f"{line[:8]}... {len(line)}",
)
def test_cut_sentence_is_recognized(line: str, server_none: GenuineServer) -> None:
    """The model accepts 62 pieces, which no setting of the server contains."""
    lines = ["hello", line, "world"]
    message = r"^line 2 \(\d+ words?\) has more pieces than the 62 that the server's model"
    with ServerEncoder(server_none.address, long_sentences="error") as encoder:
        with pytest.raises(LongSentenceError, match=message):
            list(embed(lines, encoder))
    with ServerEncoder(server_none.address) as encoder:
        _, array, _ = embed(lines, encoder)
    assert len(array) == len(line.split())


@pytest.mark.slow
def test_deleted_last_word_is_not_taken_for_a_cut(
    server_32: GenuineServer, server_none: GenuineServer
) -> None:
    for server, limit in ((server_32, 30), (server_none, 62)):
        for n in (0, 1, 5, limit - 1, limit):
            with ServerEncoder(server.address) as encoder:
                (array,) = embed(["a " * n + f"{NEWER} \U0001f971"], encoder)
            assert array.shape == (n + 2, 32)
            assert array[:n].any(axis=1).all()
            assert not array[n:].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (["-show_tokens_to_client"], "-pooling_strategy NONE"),
        (["-pooling_strategy", "NONE"], "-show_tokens_to_client"),
    ],
    ids=["pooling", "tokens"],
)
def test_server_without_piece_vectors_is_refused_with_its_start_command(
    options: list[str], missing: str, uncased_model: Path, invoke: Command, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("hello\n")
    with GenuineServer("-model_dir", uncased_model, *options) as server:
        address = server.address
        done = invoke("embed", text, "-o", tmp_path / "out", "--server", str(address))
    assert done.returncode == 3
    assert f"was started without {missing}," in done.stderr
    assert (
        f"bert-serving-start -model_dir {uncased_model} -pooling_strategy NONE "
        f"-show_tokens_to_client -max_seq_len NONE -cpu -port {address.port} "
        f"-port_out {address.port_out}"
    ) in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_settings_that_change_replies_are_supported(uncased_model: Path) -> None:
    """The server combines layers, masks special tokens, pads replies and divides batches."""
    options = ["-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE"]
    options += ["-pooling_layer", "-1", "-2", "-mask_cls_sep", "-fixed_embed_length"]
    options += ["-max_batch_size", "3"]
    with GenuineServer(*options) as server, ServerEncoder(server.address) as encoder:
        assert encoder.width == 64
        lines = ["hello " * n for n in range(1, 11)]
        arrays = list(embed(lines, encoder, "last"))
    assert [a.shape for a in arrays] == [(n, 64) for n in range(1, 11)]
    assert all(a.any(axis=1).all() for a in arrays)


@pytest.mark.slow
def test_arrays_of_several_workers_are_in_order(
    uncased_model: Path, server_none: GenuineServer
) -> None:
    """Replies overtake one another, but the arrays are in order."""
    lines = [f"{'hello ' * (n % 40)}{n} world" for n in range(2000)]
    options = ("-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE", "-num_worker", "2")
    with ServerEncoder(server_none.address) as encoder:
        expected = list(embed(lines, encoder))
    with GenuineServer(*options) as server, ServerEncoder(server.address) as encoder:
        arrays = list(embed(lines, encoder))
    assert len(arrays) == len(lines)
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """Distinct lines that keep even the tiny model busy for several seconds."""
    text = tmp_path / "text"
    words = ("hello", "world", "hankcs", "playing", "unaffable", "the", "cafe", "istanbul")
    with text.open("w") as file:
        for i in range(12_000):
            file.write(" ".join(words[(i >> j) % 8] for j in range(1 + i % 9)) + "\n")
    return text


class Running:
    """The command at work; entering waits until the server has done some jobs for it."""

    def __init__(self, server: GenuineServer, text: Path, output: Path, *options: str) -> None:
        self.server = server
        self._command = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", output]
        self._command += ["--server", str(server.address), *options]

    def __enter__(self) -> Running:
        jobs = self.server.log.count("job done")
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while self.server.log.count("job done") < jobs + 30:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def mortal_server(uncased_model: Path) -> Iterator[GenuineServer]:
    with GenuineServer("-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE") as server:
        yield server


@pytest.mark.slow
def test_killed_server_ends_the_run(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.pkl"
    options = ("--timeout", "2", "--retries", "1")
    with Running(mortal_server, long_text, output, *options) as running:
        mortal_server.kill()
        _, stderr = running.process.communicate(timeout=60)
    assert running.process.returncode == 3
    assert "is gone; it was last sent line" in stderr
    assert str(mortal_server.address) in stderr
    assert not output.exists()


@pytest.mark.slow
def test_restarted_server_completes_the_run(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path, run: Command
) -> None:
    undisturbed = tmp_path / "undisturbed.pkl"
    done = run("embed", long_text, "-o", undisturbed, "--server", mortal_server.address)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output.pkl"
    options = ("--timeout", "3", "--retries", "100")
    with Running(mortal_server, long_text, output, *options) as running:
        mortal_server.kill()
        mortal_server.start()
        _, stderr = running.process.communicate(timeout=240)
    assert running.process.returncode == 0, stderr
    assert output.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_dead_worker_is_distinguished_from_a_dead_server(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    """A list with an empty string kills the genuine worker, but the server still listens."""
    address = mortal_server.address
    options = ("--timeout", "3", "--retries", "1")
    with (
        Running(mortal_server, long_text, tmp_path / "output.pkl", *options) as running,
        connect(address) as client,
    ):
        client._send(b'[""]', 1)
        _, stderr = running.process.communicate(timeout=120)
    assert running.process.returncode == 3
    assert "its worker has probably died at line" in stderr
    with pytest.raises(ServerError, match="no bert-serving-server answers from port"):
        ServerEncoder(address, timeout=2)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_signals_end_a_run(
    signum: signal.Signals, server_none: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.pkl"
    output.write_bytes(b"older")
    with Running(server_none, long_text, output) as running:
        running.process.send_signal(signum)
        _, stderr = running.process.communicate(timeout=60)
    assert running.process.returncode == 128 + signum
    assert signum.name in stderr
    assert "Traceback" not in stderr
    assert output.read_bytes() == b"older"
