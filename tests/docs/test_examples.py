"""The examples of the documentation: sessions and Python code, with their output."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from bert_tokemb.strategies import GROUP
from support.command import ROOT, invoke, load
from support.pages import PAGES, Block, blocks, expected_print
from support.standin import StandIn

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ODD_TEXT = "Hello hankcs !\nI'm in 東京 ☃ \u200b\n"
LINES = [f"hello world number {i % 100} in the corpus" for i in range(24_000)]

FIRST_COMMAND = (
    "pip install uv && uv run --extra demo bert-tokemb embed examples/input.txt -o output.pkl "
    "--strategy avg\n"
)

CHECKED_ELSEWHERE = {
    "python": ["BertClient", "ServerEncoder"],  # need a server: below and in test_serving.py
    "text": [
        "bert-tokemb: no server listens",  # the output of the first command: below
        "I'm hankcs   ->",  # a drawing
        "ready 127",  # test_serving.py
        "Usage: bert-tokemb",  # test_command_line.py
        "embed(sentences",  # test_python_api.py
        "open_local(model",
        "ServerEncoder(address",
        "src/bert_tokemb/",  # test_contributing.py
    ],
    "json": ['"counts"'],  # below
    "toml": ["entry-points"],  # below
    "make": ["%.pkl"],  # tests/cli/test_shell.py
}
"""What identifies blocks that a test of their own checks."""


def number_free(text: str) -> str:
    """Replace numbers and units: the documentation shows larger texts than the tests use."""
    return re.sub(r"\b[kMG]B\b", "B", re.sub(r"\d[\d,.]*\d|\d", "N", text))


def time_free(text: str) -> str:
    """Replace the time and the rate of a summary line."""
    return re.sub(r"in \d+\.\d s, [\d,]+ words/s", "in T s, R words/s", text)


def assert_same(output: str, expected: str, block: Block | str = "") -> None:
    """Compare outputs; of vectors, whose last digits depend on the processor, to 0.002."""
    component = re.compile(r"-?\d+\.\d{3,}")
    assert component.sub("", output).splitlines() == component.sub("", expected).splitlines(), block
    numbers = [np.array(component.findall(text), float) for text in (output, expected)]
    np.testing.assert_allclose(*numbers, rtol=0, atol=2e-3, err_msg=str(block))


@contextmanager
def full_disk() -> Iterator[None]:
    """Let writing fail in the second half of the corpus's result, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (14_000_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def nearly_full_disk() -> Iterator[None]:
    """Let the system report little free space, which a test cannot arrange."""
    status = os.statvfs(".")
    nearly_full = mock.Mock(f_bavail=1, f_bfree=1, f_frsize=status.f_frsize)
    with mock.patch("os.statvfs", return_value=nearly_full):
        yield


@contextmanager
def interrupted_run() -> Iterator[None]:
    """Start with the partial output of an interrupted run."""
    with full_disk():
        assert invoke("embed", "corpus.txt", "-o", "corpus.pkl").returncode == 1
    yield
    for partial in Path().glob(".corpus.pkl*"):
        shutil.rmtree(partial)


SITUATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    os.strerror(errno.ENOSPC): full_disk,
    "are free on the disk": nearly_full_disk,
    "was started by a different command": interrupted_run,
}
"""What must be arranged for a command, by a part of its output."""


class Sandbox:
    """A working directory with the files that the examples name."""

    def __init__(self, directory: Path, compare: Callable[[str], str] = time_free) -> None:
        self.directory = directory
        self.compare = compare

    def run(self, block: Block) -> None:
        if block.language == "console":
            for command, expected in block.sessions():
                self._check(block, self._output(command, expected), expected)
        elif name := re.match(r"# (\w+\.py)\n", block.text):
            (self.directory / name[1]).write_text(block.text)
        else:
            self._check(block, self.execute(block.text), "\n".join(expected_print(block.text)))

    def _check(self, block: Block, output: str, expected: str) -> None:
        assert_same(self.compare(output), self.compare(expected), block)

    def _output(self, command: str, expected: str) -> str:
        """Run a command in this process, after what is piped into it."""
        piped, _, last = command.rpartition(" | ")
        stdin = subprocess.run(["bash", "-c", piped or ":"], capture_output=True, check=True).stdout
        program, *arguments = shlex.split(last)
        assert program == "bert-tokemb"
        with contextlib.ExitStack() as stack:
            for part, situation in SITUATIONS.items():
                if part in expected:
                    stack.enter_context(situation())
            done = invoke(*arguments, stdin=stdin)
        # How the full disk is arranged.
        output = done.stderr.replace(os.strerror(errno.EFBIG), os.strerror(errno.ENOSPC))
        return output + done.stdout

    def execute(self, code: str) -> str:
        """Run Python code, and return what it prints."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(code, "example", "exec"), {"__name__": "example"})  # noqa: S102
        return output.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the results of the README's text in all formats."""
    directory = tmp_path_factory.mktemp("results")
    for extension in ("pkl", "npyd", "h5", "parquet"):
        output = directory / f"output.{extension}"
        done = invoke("embed", ROOT / "examples/input.txt", "-o", output, "--model", MODEL)
        assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def sandbox(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    for result in results.iterdir():
        (tmp_path / result.name).symlink_to(result)
    (tmp_path / "input.txt").write_bytes((ROOT / "examples/input.txt").read_bytes())
    (tmp_path / "odd.txt").write_text(ODD_TEXT, "utf-8")
    (tmp_path / "book.txt").write_text("hello world " * 200)
    (tmp_path / "corpus.txt").write_text("".join(f"{line}\n" for line in LINES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERT_TOKEMB_MODEL", MODEL)
    return Sandbox(tmp_path)


def is_run(block: Block) -> bool:
    if block.language not in ("console", "python"):
        return False
    return not any(part in block.text for part in CHECKED_ELSEWHERE.get(block.language, ()))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != "docs/large-texts.md" and any(map(is_run, blocks(page)))],
)
def test_page_examples_print_their_output(page: str, sandbox: Sandbox) -> None:
    for block in filter(is_run, blocks(page)):
        sandbox.run(block)


def test_large_texts_examples_print_their_output(
    sandbox: Sandbox, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_TOKEMB_MODEL", str(shared_tiny))
    sandbox.compare = number_free
    sharding = {block for block in blocks("docs/large-texts.md") if "shard" in block.text}
    for block in filter(is_run, blocks("docs/large-texts.md")):
        if block not in sharding:
            sandbox.run(block)
    (shell,) = (block for block in sharding if block.language == "sh")
    (python,) = (block for block in sharding if block.language == "python")
    split, loop = shell.text.splitlines()
    subprocess.run(["bash", "-c", split], check=True)
    embed = re.search(r"bert-tokemb (embed .*?);", loop)
    for i in range(3):
        done = invoke(*embed[1].replace("$shard", f"shard.0{i}").split())
        assert done.returncode == 0, done.stderr
    assert int(sandbox.execute(python.text)) == len(LINES)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_checked(page: str) -> None:
    """Blocks in ``sh`` are parsed by test_command_line.py."""
    for block in blocks(page):
        known = CHECKED_ELSEWHERE.get(block.language, ())
        assert (
            is_run(block)
            or block.language == "sh"
            or any(part in block.text for part in known)
            or page.startswith("benchmarks/")  # what the benchmarks measured
        ), f"{block} is not checked by any test"


def test_first_command_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = blocks("README.md", "sh")[0].text
    assert command == FIRST_COMMAND
    arguments = shlex.split(command.partition(" bert-tokemb ")[2])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    done = invoke(*arguments)
    assert done.returncode == 0
    shown = next(block.text for block in blocks("README.md", "text") if "2 sentences" in block.text)

    def comparable(text: str) -> str:
        # The tests look for a server at a port where none can be.
        return re.sub(r"\d+ threads?|(localhost|127.0.0.1):\d+", "", time_free(text))

    assert comparable(done.stderr) == comparable(shown)
    assert [array.shape for array in load(tmp_path / "output.pkl")] == [(3, 384), (2, 384)]


def test_report_contains_what_diagnostics_shows(sandbox: Sandbox) -> None:
    done = invoke("embed", "odd.txt", "-o", "odd.pkl", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads(Path("report.json").read_text("utf-8"))
    (block,) = blocks("docs/diagnostics.md", "json")
    shown = json.loads(f"{{{block.text}}}")
    assert shown == {name: report[name] for name in shown}


def test_own_strategy_of_the_documentation_can_be_used(sandbox: Sandbox) -> None:
    page = "docs/strategies.md"
    (function,) = blocks(page, "python")
    sandbox.run(function)
    (command,) = blocks(page, "sh")
    with StandIn() as server:
        done = invoke(
            *shlex.split(command.text)[1:],
            "--server",
            server.address,
            env={"BERT_TOKEMB_MODEL": ""},
        )
    assert done.returncode == 0, done.stderr
    hankcs = load(sandbox.directory / "output.pkl")[1][1]
    assert hankcs[0] == (4 + 5) / 2  # `[CLS] i ' m hank ##cs`: its pieces are number 4 and 5


def test_entry_point_group_is_the_one_of_the_package() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    (block,) = blocks("docs/strategies.md", "toml")
    assert tomllib.loads(block.text) == {
        "project": {"entry-points": {GROUP: {"ends": "halves:ends"}}}
    }


def test_server_example_of_the_python_api_runs(sandbox: Sandbox) -> None:
    (block,) = (
        block for block in blocks("docs/python-api.md", "python") if "Address" in block.text
    )
    with StandIn() as server:
        there = f'"{server.address.host}", {server.address.port}, {server.address.port_out}'
        code = block.text.replace('"localhost", 5555, 5556', there)
        assert code != block.text
        assert sandbox.execute(f"{code}\nprint([len(array) for array in arrays])") == "[3, 2]\n"


@pytest.mark.slow
def test_shell_scripts_of_large_texts_run(
    sandbox: Sandbox, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``parallel`` is run by tests/cli/test_shell.py, if there is one."""
    (block,) = (b for b in blocks("docs/large-texts.md", "sh") if "xargs" in b.text)
    split, _, xargs, pipe = block.text.splitlines()
    monkeypatch.setenv("BERT_TOKEMB_MODEL", str(shared_tiny))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    script = f"""
        set -euo pipefail
        {split} < /dev/null
        {xargs}
        gzip -k corpus.txt && mv corpus.txt.gz corpus.gz
        printf '#!/bin/sh\\ncat > corpus.pkl\\n' > reader && chmod +x reader
        {pipe}
    """
    subprocess.run(["bash", "-c", script], check=True, capture_output=True)
    whole = load(Path("corpus.pkl"))
    parts = [array for part in sorted(Path().glob("part.*.pkl")) for array in load(part)]
    assert len(whole) == len(parts) == len(LINES)
    assert all(map(np.array_equal, whole, parts))
    assert load(Path("book.txt.pkl"))
