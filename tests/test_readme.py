"""README's commands, output and examples are true."""

from __future__ import annotations

import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Command
from support.standin import StandIn

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


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
    arrays = pickle.loads((tmp_path / "output.pkl").read_bytes())
    assert [array.shape for array in arrays] == [(3, 384), (2, 384)]
    loading = subprocess.run(
        [sys.executable, "-c", blocks("python")[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loading.stdout.strip() == re.search(r"# (.*)", blocks("python")[0])[1]


def test_the_options(run: Command) -> None:
    shown = blocks("text")[1]
    told = run("embed", "--help", env={"COLUMNS": "100"}).stdout
    assert shown.split() == told.split()


def test_the_plugin(run: Command, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("unaffable\n")
    (tmp_path / "halves.py").write_text(blocks("python")[1])
    command = shlex.split(re.search(r"`bert-tokemb (embed .*? halves:ends)`", README)[1])
    with StandIn() as server:
        done = run(*command, "--server", server.address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (array,) = pickle.loads((tmp_path / "output.pkl").read_bytes())
    assert array[0, 0] == (1 + 3) / 2  # unaf ##fabl ##e lie at 1, 2 and 3


def test_the_python_example() -> None:
    code = blocks("python")[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(3, 384)\n(2, 384)\n"


def test_the_server_is_started_as_the_tests_start_it() -> None:
    """The versions named are those the genuine server runs with here."""
    from support.genuine import REQUIREMENTS

    server = next(block for block in blocks("sh") if "bert-serving-start" in block)
    install = next(line for line in server.splitlines() if "pip install" in line)
    assert shlex.split(install)[-len(REQUIREMENTS) :] == list(REQUIREMENTS)
    start = server.splitlines()[-1]
    assert "-pooling_strategy NONE -show_tokens_to_client -max_seq_len NONE" in start


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http|#)([^)]+)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
