"""Against the genuine bert-serving-server 1.10.0."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from bert_serving.client import BertClient

from bert_tokemb import ServingEncoder, Tally, embed
from bert_tokemb.errors import LongSentenceError, ServerError
from bert_tokemb.types import Sentence
from support.cases import CASES, Case
from support.command import Command
from support.genuine import NONE, GenuineServer
from support.seed import seed_embed
from support.texts import random_words

ROOT = Path(__file__).parents[2]


def ask_for_pieces(server: GenuineServer, texts: list[str]) -> list[list[str]]:
    """Return each text's pieces by the original client alone."""
    client = BertClient(
        server.address.host,
        server.address.port,
        server.address.port_out,
        timeout=60_000,
    )
    with client, pytest.warns(UserWarning, match="max_seq_len"):
        _, tokens = client.encode(texts, show_tokens=True)
    return [sentence[1:-1] for sentence in tokens]


EmbedWith = Callable[..., list[np.ndarray]]


@pytest.fixture
def embed_with() -> EmbedWith:
    def embed_with(server: GenuineServer, lines: list[str], *args, **kwargs) -> list[np.ndarray]:
        with ServingEncoder(server.address) as encoder:
            return list(embed(lines, encoder, *args, **kwargs))

    return embed_with


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cases_are_what_the_server_does(
    case: Case, server_none: GenuineServer, server_cased: GenuineServer
) -> None:
    server = server_cased if case.cased else server_none
    text = " ".join("| | |" if word == "|||" else word for word in case.words)
    assert ask_for_pieces(server, [text]) == [case.flat]


@pytest.mark.parametrize("cased", [False, True])
def test_counts_of_all_cases_together(
    cased: bool, server_none: GenuineServer, server_cased: GenuineServer
) -> None:
    cases = [case for case in CASES if case.cased == cased]
    counts = Tally()
    with ServingEncoder((server_cased if cased else server_none).address) as encoder:
        prepared = [
            encoder.prepare(Sentence(line, case.words)) for line, case in enumerate(cases, 1)
        ]
        encoded = next(iter(encoder.encode([prepared])))
        assert encoded.counts.tolist() == [n for case in cases for n in case.counts]
        assert not encoded.inexact
        arrays = list(embed([" ".join(case.words) for case in cases], encoder, tally=counts))
    assert [len(array) for array in arrays] == [len(case.words) for case in cases]
    assert counts.empty_words == sum(not own for case in cases for own in case.pieces)
    assert counts.unknown_words == sum("[UNK]" in own for case in cases for own in case.pieces)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_word_gets_its_own_pieces(
    case: Case, server_none: GenuineServer, server_cased: GenuineServer
) -> None:
    """The vectors of its first and last piece are those that the original client gets."""
    address = (server_cased if case.cased else server_none).address
    text = " ".join("| | |" if word == "|||" else word for word in case.words)
    client = BertClient(
        address.host, address.port, address.port_out, ignore_all_checks=True, timeout=60_000
    )
    with client:
        (vectors,) = client.encode([text])
    none = np.zeros(vectors.shape[1], np.float32)
    first, last, done = [], [], 1
    for count in case.counts:
        first.append(vectors[done] if count else none)
        done += count
        last.append(vectors[done - 1] if count else none)
    # Beside a longer sentence, so that rows of padding lie between.
    lines = [" ".join(case.words), "hello " * 60]
    with ServingEncoder(address) as encoder:
        for strategy, expected in (("first", first), ("last", last)):
            array, _ = embed(lines, encoder, strategy)
            np.testing.assert_allclose(array, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("cased", [False, True])
def test_any_characters_at_all(
    cased: bool, server_none: GenuineServer, server_cased: GenuineServer
) -> None:
    """In a sentence each word has the pieces that the server gives it alone."""
    server = server_cased if cased else server_none
    words = random_words(Random(2019), 3000)
    alone = ask_for_pieces(server, ["| | |" if word == "|||" else word for word in words])
    sentences = [Sentence(i, words[i : i + 6]) for i in range(0, len(words), 6)]
    with ServingEncoder(server.address) as encoder:
        prepared = [encoder.prepare(sentence) for sentence in sentences]
        batches = [prepared[i : i + 32] for i in range(0, len(prepared), 32)]
        encoded = list(encoder.encode(batches))
    assert [n for one in encoded for n in one.counts.tolist()] == list(map(len, alone))
    assert [u for one in encoded for u in one.unknown] == ["[UNK]" in own for own in alone]
    assert not any(one.inexact for one in encoded)


# --- The same vectors as the seed's method, with a real model ---------------------------------


@pytest.fixture(scope="module")
def real_text() -> list[str]:
    """Plain English in ASCII, where the seed's method loses no word."""
    text = (ROOT / "LICENSE").read_text("ascii")
    return [line for line in text.splitlines() if line.split()]


@pytest.mark.parametrize(("max_seq_len", "tolerance"), [("48", 0.0), ("NONE", 2e-5)])
def test_same_vectors_as_the_seed(
    max_seq_len: str, tolerance: float, real_model: Path, real_text: list[str]
) -> None:
    """`last` bit for bit with a fixed length; `avg`, and other batches under NONE, to 2e-5."""
    options = ("-model_dir", real_model, *NONE, "-max_seq_len", max_seq_len)
    with GenuineServer(*options) as server:
        address = server.address
        client = BertClient(address.host, address.port, address.port_out, check_length=False)
        with client, ServingEncoder(address) as encoder:
            for strategy in ("last", "avg"):
                theirs = list(seed_embed(client, real_text, strategy))
                ours = list(embed(real_text, encoder, strategy))
                assert [len(a) for a in ours] == [len(line.split()) for line in real_text]
                assert [a.shape for a in ours] == [a.shape for a in theirs]
                difference = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
                assert difference <= (tolerance if strategy == "last" else 2e-5)


# --- Sentences that are too long --------------------------------------------------------------


def test_a_sentence_that_fits_exactly_is_not_cut(
    server_32: GenuineServer, server_none: GenuineServer, embed_with: EmbedWith
) -> None:
    assert [len(a) for a in embed_with(server_32, ["a " * 30, "!" * 30])] == [30, 1]
    assert [len(a) for a in embed_with(server_none, ["a " * 62, "!" * 62])] == [62, 1]


LONE = "\u200b"  # a word without pieces


@pytest.mark.parametrize(
    "line",
    [
        "a " * 63,
        "!" * 63,
        "a" * 63,
        "!" * 63 + " " + LONE,
        "a " * 62 + "\U0001fac2 b",
        "\U0001fac2 " * 9 + "a " * 63,
        "\U0001fac2" + "!" * 63,
        "東 " * 63,
        "hello " * 5000,
    ],
    ids=lambda line: f"{line[:8]}... {len(line)}",
)
def test_a_cut_sentence_is_never_taken_for_whole(
    line: str, server_none: GenuineServer, embed_with: EmbedWith
) -> None:
    """The model takes 62 pieces, which no setting of the server tells."""
    message = r"^line 2, of \d+ words?, has more than the 62 word pieces"
    with pytest.raises(LongSentenceError, match=message):
        with ServingEncoder(server_none.address, long_sentences="error") as encoder:
            list(embed(["hello", line, "world"], encoder))
    (_, array, _) = embed_with(server_none, ["hello", line, "world"])
    assert len(array) == len(line.split())


def test_a_deleted_last_word_is_no_cut(
    server_32: GenuineServer, server_none: GenuineServer, embed_with: EmbedWith
) -> None:
    """The server deletes what its Unicode table lacks: no pieces, but nothing was cut."""
    for server, most in ((server_32, 30), (server_none, 62)):
        for n in (0, 1, 5, most - 1, most):
            line = "a " * n + "\U0001fac2 \U0001f971"
            (array,) = embed_with(server, [line])
            assert array.shape == (n + 2, 32)
            assert array[:n].any(axis=1).all()
            assert not array[n:].any()


def test_too_long_for_max_seq_len(server_32: GenuineServer, run: Command, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello world\n" + "a " * 31 + "\n")
    output = tmp_path / "output.pkl"
    options = ("--server", server_32.address, "--long-sentences", "error")
    done = run("embed", text, "-o", output, *options)
    assert done.returncode == 1
    assert "line 2 (31 words) has more pieces than the 30 that" in done.stderr
    assert "-max_seq_len 32" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


# --- Servers started wrongly, and servers that die --------------------------------------------


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (["-show_tokens_to_client"], "-pooling_strategy NONE"),
        (["-pooling_strategy", "NONE"], "-show_tokens_to_client"),
    ],
    ids=["pooling", "tokens"],
)
def test_a_wrongly_started_server_is_refused(
    options: list[str], missing: str, uncased_model: Path, run: Command, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("hello\n")
    with GenuineServer("-model_dir", uncased_model, *options) as server:
        done = run("embed", text, "-o", tmp_path / "out", "--server", server.address)
    assert done.returncode == 3
    assert f"was started without {missing}," in done.stderr
    assert (
        f"bert-serving-start -model_dir {uncased_model} -pooling_strategy NONE "
        f"-show_tokens_to_client -max_seq_len NONE -cpu -port {server.address.port} "
        f"-port_out {server.address.port_out}"
    ) in done.stderr
    assert not (tmp_path / "out").exists()


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
    """The command at work, and a way to wait until the server has done some of its jobs."""

    def __init__(self, server: GenuineServer, text: Path, output: Path, *options: str) -> None:
        self.server = server
        self._command = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", output]
        self._command += ["--server", str(server.address), *options]

    def __enter__(self) -> Running:
        jobs = self.server.log.count("job done")
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
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


def test_a_server_that_is_killed_ends_the_run(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.pkl"
    options = ("--timeout", "1", "--retries", "1")
    with Running(mortal_server, long_text, output, *options) as running:
        mortal_server.kill()
        _, told = running.process.communicate(timeout=30)
    assert running.process.returncode == 3
    assert "is gone; it was last sent line" in told
    assert str(mortal_server.address) in told
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_server_that_is_restarted_lets_the_run_complete(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path, run: Command
) -> None:
    undisturbed = tmp_path / "undisturbed.pkl"
    done = run("embed", long_text, "-o", undisturbed, "--server", mortal_server.address)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output.pkl"
    options = ("--timeout", "3", "--retries", "20")
    with Running(mortal_server, long_text, output, *options) as running:
        mortal_server.kill()
        time.sleep(1)
        mortal_server.start()
        _, told = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, told
    assert output.read_bytes() == undisturbed.read_bytes()


def test_a_worker_that_dies_is_told_from_a_server_that_dies(
    mortal_server: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    """A list with an empty string kills the genuine worker; the server goes on listening."""
    address = mortal_server.address
    options = ("--timeout", "2", "--retries", "1")
    with (
        Running(mortal_server, long_text, tmp_path / "output.pkl", *options) as running,
        BertClient(address.host, address.port, address.port_out, ignore_all_checks=True) as client,
    ):
        client._send(b'[""]', 1)
        _, told = running.process.communicate(timeout=60)
    assert running.process.returncode == 3
    assert "its worker has probably died over line" in told
    with pytest.raises(ServerError, match="restart it if its worker has died"):
        ServingEncoder(address, timeout=2)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_signals_end_a_run_at_once(
    signum: signal.Signals, server_none: GenuineServer, long_text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.pkl"
    output.write_bytes(b"older")
    with Running(server_none, long_text, output) as running:
        running.process.send_signal(signum)
        _, told = running.process.communicate(timeout=10)
    assert running.process.returncode == 128 + signum
    assert signum.name in told
    assert "Traceback" not in told
    assert output.read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "output.pkl"}


# --- The whole command ------------------------------------------------------------------------


def test_the_example(server_none: GenuineServer, run: Command, tmp_path: Path) -> None:
    output = tmp_path / "output.pkl"
    example = ROOT / "examples" / "input.txt"
    done = run("embed", example, "-o", output, "--server", server_none.address)
    assert done.returncode == 0
    assert done.stdout == ""
    assert f"2 sentences, 5 words -> {output}" in done.stderr
    arrays = pickle.loads(output.read_bytes())
    assert type(arrays) is list
    assert [(a.shape, a.dtype) for a in arrays] == [((3, 32), np.float32), ((2, 32), np.float32)]


def test_settings_that_change_replies_are_understood(uncased_model: Path) -> None:
    """Several layers, special pieces masked, replies of a fixed length, small batches."""
    options = ["-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE"]
    options += ["-pooling_layer", "-1", "-2", "-mask_cls_sep", "-fixed_embed_length"]
    options += ["-max_batch_size", "3"]
    with GenuineServer(*options) as server, ServingEncoder(server.address) as encoder:
        assert encoder.width == 64
        lines = ["hello " * n for n in range(1, 11)]
        arrays = list(embed(lines, encoder, "last"))
    assert [a.shape for a in arrays] == [(n, 64) for n in range(1, 11)]
    assert all(a.any(axis=1).all() for a in arrays)


def test_several_workers(uncased_model: Path, server_none: GenuineServer) -> None:
    """Replies overtake one another, and the arrays come in order all the same."""
    lines = [f"{'hello ' * (n % 40)}{n} world" for n in range(2000)]
    options = ("-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE", "-num_worker", "2")
    with ServingEncoder(server_none.address) as encoder:
        expected = list(embed(lines, encoder))
    with GenuineServer(*options) as server, ServingEncoder(server.address) as encoder:
        arrays = list(embed(lines, encoder))
    assert len(arrays) == len(lines)
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)
