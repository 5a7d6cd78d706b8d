"""The commands with tokenizers other than BERT's."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest

from support.command import Command, load
from support.models import TINY
from support.ours import invoke_serve
from support.resuming import RESUMING, Run, content
from support.texts import random_words
from support.toys import ADDED, write_toy

XLMR = "Unigram like XLM-R"
PHRASE = "byte-level BPE with an added phrase"


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("unigram") / "model", XLMR)


@pytest.fixture(scope="module")
def phrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("phrase") / "model", PHRASE)


def test_pieces_marks_unknown_words_and_words_without_pieces(
    unigram: Path, tmp_path: Path, invoke: Command
) -> None:
    text = tmp_path / "text"
    text.write_text("☃ [UNK] <unk> \xad\n")
    done = invoke("pieces", text, "--model", unigram)
    assert (done.returncode, done.stderr) == (0, "")
    snow, literal, special, deleted = done.stdout.rstrip("\n").split(" | ")
    assert snow == "▁ <unk>=☃"
    assert literal.endswith("=[UNK]")  # its brackets are unknown
    assert special == "▁ <unk>=<unk>"
    assert deleted == r"=\xad"


def test_pieces_shows_shared_pieces_with_each_word(
    phrase: Path, tmp_path: Path, invoke: Command
) -> None:
    text = tmp_path / "text"
    text.write_text(f"a {ADDED} [UNK]\n")
    done = invoke("pieces", text, "--model", phrase)
    assert done.stdout == f"a | Ġ {ADDED} | {ADDED} | Ġ [ U N K ]\n"


def test_report_counts_shared_and_inexact_sentences(
    phrase: Path, unigram: Path, tmp_path: Path, invoke: Command
) -> None:
    text, report = tmp_path / "text", tmp_path / "report"
    text.write_text(f"a cat\na {ADDED}\n\n{ADDED} a\nthe \u0600 \u0301x\n")
    command = ("embed", text, "-o", tmp_path / "out.pkl", "--report", report, "--model")
    done = invoke(*command, phrase)
    assert done.stderr.endswith("; 1 blank line, 2 sentences with shared pieces\n")
    found = json.loads(report.read_text())
    assert found["counts"]["shared_sentences"] == 2
    assert found["first"] == {"shared_sentences": [2, 4]}
    assert found["options"]["tokenizer"] == "BPE"
    assert [array.shape for array in load(tmp_path / "out.pkl")] == [
        (n, TINY["hidden_size"]) for n in (2, 3, 0, 3, 3)
    ]
    done = invoke(*command, unigram)
    assert done.stderr.endswith("1 sentence aligned inexactly\n")
    assert json.loads(report.read_text())["first"]["inexact_sentences"] == [5]


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
def test_interrupted_run_resumes_byte_for_byte(name: str, phrase: Path, tmp_path: Path) -> None:
    random = Random(16)
    lines = [" ".join(random_words(random, n % 20)) for n in range(300)]
    lines[100] = f"the {ADDED} cat " * 60
    results = []
    for kind in ("whole", "interrupted"):
        (tmp_path / kind).mkdir()
        run = Run(tmp_path / kind, lines, "--model", phrase)
        run.output = run.directory / name
        if kind == "interrupted":
            run.break_off(250)
        done = run()
        assert done.returncode == 0, done.stderr
        assert bool(RESUMING.search(done.stderr)) == (kind == "interrupted")
        results.append(content(run.output))
    assert results[0] == results[1]


def test_changed_tokenizer_is_not_resumed(tmp_path: Path) -> None:
    model = write_toy(tmp_path / "model", XLMR)
    lines = [f"the fox {n}" for n in range(3000)]
    run = Run(tmp_path, lines, "--model", model)
    run.break_off(2900)
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    path.write_text(json.dumps({**tokenizer, "normalizer": {"type": "Lowercase"}}))
    done = run()
    assert done.returncode == 2
    assert "the model has another tokenizer" in done.stderr
    path.write_text(json.dumps(tokenizer, indent=1))  # other bytes
    assert "the model has another tokenizer" in run().stderr


@pytest.mark.parametrize("option", ["--cased", "--uncased"])
@pytest.mark.parametrize("command", ["embed", "pieces", "serve"])
def test_cased_is_refused(
    option: str, command: str, unigram: Path, tmp_path: Path, invoke: Command
) -> None:
    (tmp_path / "text").write_text("a\n")
    arguments = {
        "embed": (tmp_path / "text", "-o", tmp_path / "out.pkl"),
        "pieces": (tmp_path / "text",),
        "serve": ("--port", "0", "--port-out", "0"),
    }[command]
    done = invoke(command, *arguments, "--model", unigram, option)
    assert done.returncode == 2
    assert (
        f"{unigram}/tokenizer.json is the tokenizer of a model (Unigram) that decides by itself "
        "whether capitals and accents are kept; give neither --cased nor --uncased"
    ) in done.stderr


def test_strict_refuses_unknown_words(unigram: Path, tmp_path: Path, invoke: Command) -> None:
    (tmp_path / "text").write_text("the fox\nthe ☃\n")
    done = invoke(
        "embed", tmp_path / "text", "-o", tmp_path / "o.pkl", "--model", unigram, "--strict"
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        "line 2: the word '☃' is unknown to the model; change it, or run without --strict\n"
    )


@pytest.mark.parametrize("flags", [("--model",), ("-model_dir",)])
def test_serve_refuses_other_tokenizers(flags: tuple[str, ...], unigram: Path) -> None:
    done = invoke_serve(lambda address: pytest.fail("it serves"), *flags, unigram)
    assert done.returncode == 4
    assert (
        f"{unigram} cannot be served: clients of bert-as-service rely on BERT's own tokenizer, and "
        "it has another (Unigram)"
    ) in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "has no tokenizer: neither tokenizer.json nor vocab.txt"),
        ("spm.model", "has spm.model, but no tokenizer.json: write one by python -c "),
        ("tokenizer.json", "tokenizer.json is damaged: "),
    ],
)
def test_missing_or_damaged_tokenizer_ends_with_one_sentence(
    name: str, message: str, tmp_path: Path, invoke: Command
) -> None:
    model = write_toy(tmp_path / "model", XLMR)
    content = (model / "tokenizer.json").read_bytes()
    (model / "tokenizer.json").unlink()
    (model / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "text").write_text("a\n")
    done = invoke("embed", tmp_path / "text", "-o", tmp_path / "out.pkl", "--model", model)
    assert done.returncode == 4
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_words_that_share_a_piece_are_in_one_window(
    phrase: Path, tmp_path: Path, invoke: Command
) -> None:
    text = tmp_path / "text"
    text.write_text(f"{ADDED} " * 100 + "\n")
    done = invoke(
        "embed",
        text,
        "-o",
        tmp_path / "out.pkl",
        "--model",
        phrase,
        "--max-seq-len",
        "20",
        "-s",
        "last",
    )
    assert done.returncode == 0
    (array,) = load(tmp_path / "out.pkl")
    np.testing.assert_array_equal(array[::2], array[1::2])
