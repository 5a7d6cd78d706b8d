"""README's commands, output and examples are true."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.command import Command
from support.ours import OurServer
from support.standin import StandIn

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, part: str) -> str:
    """Return the one block that holds some text."""
    (found,) = [block for block in blocks(language) if part in block]
    return found


def test_the_two_commands_stand_there() -> None:
    first, second, *_ = (block.strip() for block in blocks("sh"))
    assert first == (
        "pip install uv && uv run --extra demo bert-tokemb embed examples/input.txt -o output.pkl "
        "--strategy avg"
    )
    assert second == "pip install uv && uv run pytest"


def test_the_first_command(run: Command, tmp_path: Path) -> None:
    """What stands behind `uv run`, word for word; and its output as README shows it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    command = shlex.split(blocks("sh")[0].partition("uv run --extra demo ")[2])
    assert command[0] == "bert-tokemb"
    done = run(*command[1:], cwd=tmp_path)
    assert done.returncode == 0
    # The time, and with it the rate, differ from run to run; so do CPUs. Nobody is looked for at
    # the usual port.
    told, shown = (
        re.sub(r"in \d.*|\d+ threads?|(localhost|127.0.0.1):\d+", "", lines)
        for lines in (done.stderr, blocks("text")[0])
    )
    assert told == shown
    looking = run("info", "output.pkl", cwd=tmp_path)
    shown = block("text", "$ bert-tokemb info output.pkl").partition("\n")[2]
    numbers = re.compile(r"-?\d+\.\d+")  # their last digits depend on the processor
    assert numbers.sub("", looking.stdout) == numbers.sub("", shown)
    told, printed = (np.array(numbers.findall(text), float) for text in (looking.stdout, shown))
    np.testing.assert_allclose(told, printed, rtol=0, atol=2e-3)
    arrays = pickle.loads((tmp_path / "output.pkl").read_bytes())
    assert [array.shape for array in arrays] == [(3, 384), (2, 384)]
    loading = subprocess.run(
        [sys.executable, "-c", block("python", "pickle.load")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loading.stdout.strip() == re.search(r"# (.*)", block("python", "pickle.load"))[1]


def test_the_pieces_and_the_report(run: Command, tmp_path: Path) -> None:
    """Of the text that README shows."""
    command, _, shown = block("text", "bert-tokemb pieces").removeprefix("$ ").partition("\n")
    printing, piping, _ = command.partition(" | bert-tokemb pieces -")
    assert piping
    text = subprocess.run(["bash", "-c", printing], capture_output=True, check=True).stdout
    done = run("pieces", "-", input=text.decode())
    assert done.stdout == shown
    (tmp_path / "text").write_bytes(text)
    run("embed", "text", "-o", "out.pkl", "--report", "report.json", cwd=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    told = json.loads(f"{{{block('json', 'counts')}}}")
    assert told == {name: report[name] for name in told}


def test_the_directory(run: Command, tmp_path: Path) -> None:
    """Of the two lines that README embeds."""
    text, model = ROOT / "examples" / "input.txt", "sentence-transformers/all-MiniLM-L6-v2"
    done = run("embed", text, "-o", "output.npyd", "--model", model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = block("python", "bert_tokemb.open")
    opening = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert opening.stdout.strip() == re.search(r"# (.*)", code)[1]


@pytest.mark.parametrize("name", ["output.h5", "output.parquet"])
def test_the_other_formats(name: str, run: Command, tmp_path: Path) -> None:
    """Of the two lines that README embeds."""
    text, model = ROOT / "examples" / "input.txt", "sentence-transformers/all-MiniLM-L6-v2"
    done = run("embed", text, "-o", name, "--model", model, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = block("python", f'"{name}"')
    opening = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert opening.stdout.strip() == re.search(r"# (.*)", code)[1]


@pytest.mark.parametrize("command", ["embed", "serve"])
def test_the_options(command: str, run: Command) -> None:
    shown = block("text", f"Usage: bert-tokemb {command} ")
    told = run(command, "--help", env={"COLUMNS": "100"}).stdout
    assert shown.split() == told.split()


def test_the_server_of_our_own(shared_tiny: Path, run: Command, tmp_path: Path) -> None:
    """Its client's program, and what it tells, as README has them; the ports are others."""
    command = shlex.split(block("sh", "bert-tokemb serve"))
    assert command[:3] == ["bert-tokemb", "serve", "--model"]
    told, program = block("text", "ready 127"), block("python", "BertClient")
    with OurServer("--model", shared_tiny, "--max-seq-len", "32") as server:
        address = str(server.address)
        assert re.sub(r":\d+", "", told) == f"ready {server.address.host}\n"
        ports = f"port={server.address.port}, port_out={server.address.port_out}"
        program = program.replace("BertClient()", f"BertClient({ports})")
        shown = "; print(vectors.shape, tokens[0][:2])"
        done = subprocess.run(
            [sys.executable, "-c", program.rstrip() + shown],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("(1, 32, 32) ['[CLS]', 'hello'")
        assert "embed input.txt -o output.pkl --server 127.0.0.1" in README
        (tmp_path / "input.txt").write_text("hello world")
        embedding = run("embed", "input.txt", "-o", "o", "--server", address, cwd=tmp_path)
        assert embedding.returncode == 0, embedding.stderr


def test_the_plugin(run: Command, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("unaffable\n")
    (tmp_path / "halves.py").write_text(block("python", "def ends"))
    command = shlex.split(re.search(r"`bert-tokemb (embed .*? halves:ends)`", README)[1])
    with StandIn() as server:
        done = run(*command, "--server", server.address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (array,) = pickle.loads((tmp_path / "output.pkl").read_bytes())
    assert array[0, 0] == (1 + 3) / 2  # unaf ##fabl ##e lie at 1, 2 and 3


def test_the_python_example() -> None:
    code = block("python", "open_local")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(3, 384)\n(2, 384)\n"


def test_the_server_is_started_as_the_tests_start_it() -> None:
    """The versions named are those the genuine server runs with here."""
    from support.genuine import REQUIREMENTS

    server = block("sh", "bert-serving-start")
    install = next(line for line in server.splitlines() if "pip install" in line)
    assert shlex.split(install)[-len(REQUIREMENTS) :] == list(REQUIREMENTS)
    start = server.splitlines()[-1]
    assert "-pooling_strategy NONE -show_tokens_to_client -max_seq_len NONE" in start


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http|#)([^)]+)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
