"""Shell scripts that call the command, with split, xargs, GNU parallel and make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from support.command import load

LINES = [f"hello {'world ' * (n % 7)}hankcs {'a' * (n % 11)} !" for n in range(600)]


class Shell:
    """Runs scripts in a directory that holds `text.txt`; `$EMBED` is the command."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.directory = directory
        (directory / "text.txt").write_text("\n".join(LINES) + "\n")
        scripts = sysconfig.get_path("scripts")
        self.environment = {
            **os.environ,
            "PATH": f"{scripts}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BERT_TOKEMB_MODEL": str(model),
            "BERT_TOKEMB_QUIET": "1",
        }

    def __call__(self, script: str, **settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            **{  # type: ignore[call-overload]
                "cwd": self.directory,
                "env": self.environment,
                "capture_output": True,
                "text": True,
                "timeout": 100,
                **settings,
            },
        )

    def arrays(self, *names: str) -> list[np.ndarray]:
        return [array for name in names for array in load(self.directory / name)]


@pytest.fixture
def shell(tmp_path: Path, shared_tiny: Path) -> Shell:
    return Shell(tmp_path, shared_tiny)


def assert_clean(done: subprocess.CompletedProcess[str], stdout: str = "") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, stdout, "")


def assert_whole(shell: Shell, *names: str) -> None:
    """Check that the parts together equal the result of the whole text."""
    assert_clean(shell("bert-tokemb embed text.txt -o whole.pkl"))
    whole, parts = shell.arrays("whole.pkl"), shell.arrays(*names)
    assert len(whole) == len(parts) == len(LINES)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.slow
def test_split_filter_embeds_each_part(shell: Shell) -> None:
    """`--filter` sends each part to a command's standard input, as `parallel --pipe` does."""
    assert_clean(
        shell("split -n l/3 --filter 'bert-tokemb embed - -o $FILE.pkl' text.txt part. < /dev/null")
    )
    assert_whole(shell, "part.aa.pkl", "part.ab.pkl", "part.ac.pkl")


@pytest.mark.slow
def test_parallel_pipepart_embeds_each_part(shell: Shell) -> None:
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    command = "bert-tokemb embed - -o part{#}.pkl"
    done = shell(f"parallel --will-cite --pipepart --block -1 -j 2 -a text.txt '{command}'")
    assert_clean(done)
    assert_whole(shell, "part1.pkl", "part2.pkl")


@pytest.mark.slow
def test_xargs_continues_after_failed_part(shell: Shell) -> None:
    command = "xargs -0 -P 2 -I {} bert-tokemb embed {} -o {}.pkl"
    assert_clean(shell(f"split -n l/3 text.txt part. && printf '%s\\0' part.* | {command}"))
    assert_whole(shell, "part.aa.pkl", "part.ab.pkl", "part.ac.pkl")
    # The other parts are embedded all the same.
    done = shell(f"rm *.pkl; printf '%s\\0' part.aa nowhere part.ac | {command}")
    assert done.returncode == 123
    assert done.stderr.splitlines() == [
        "bert-tokemb: error: cannot read nowhere: No such file or directory"
    ]
    assert shell.arrays("part.aa.pkl", "part.ac.pkl")


MAKEFILE = """
all: text.pkl other.pkl
%.pkl: %.txt
\t@bert-tokemb embed $< -o $@
"""


@pytest.mark.slow
def test_make_rebuilds_failed_target_only(shell: Shell) -> None:
    (shell.directory / "Makefile").write_text(MAKEFILE)
    (shell.directory / "other.txt").write_bytes(b"a\n\xff\n")
    # A failed run leaves no target, which make would take for a finished one.
    done = shell("make -k -j 2")
    assert done.returncode == 2
    assert "other.txt is not UTF-8" in done.stderr
    assert not (shell.directory / "other.pkl").exists()
    assert len(shell.arrays("text.pkl")) == len(LINES)
    before = (shell.directory / "text.pkl").stat().st_mtime_ns
    assert_clean(shell("echo a > other.txt; make"))
    assert shell("make").stdout.startswith("make: Nothing to be done")
    assert (shell.directory / "text.pkl").stat().st_mtime_ns == before


def test_pipes_serve_as_input_and_output(shell: Shell) -> None:
    reader = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer)))"
    done = shell(f"cat text.txt | bert-tokemb embed - -o - | python -c '{reader}'")
    assert_clean(done, f"{len(LINES)}\n")


def test_process_substitution_serves_as_input_and_output(shell: Shell) -> None:
    assert_clean(shell("bert-tokemb embed <(head -n 5 text.txt) -o >(cat > c.pkl); wait $!"))
    assert len(shell.arrays("c.pkl")) == 5


@pytest.mark.slow
def test_compressed_file_equals_decompressed_pipe(shell: Shell) -> None:
    assert_clean(
        shell(
            "gzip -c text.txt > t.gz; bert-tokemb embed t.gz -o a.pkl;"
            "gzip -dc t.gz | bert-tokemb embed - -o - > b.pkl; cmp a.pkl b.pkl"
        )
    )


@pytest.mark.parametrize(
    "source", ["yes 'a b c'", pytest.param("cat text.txt", marks=pytest.mark.slow)]
)
def test_reader_that_stops_early_ends_the_run(source: str, shell: Shell) -> None:
    done = shell(
        "set +e +o pipefail\n"
        f"({source} 2> /dev/null || true) | bert-tokemb embed - -o - | head -c 100 | wc -c\n"
        "echo ${PIPESTATUS[@]}"
    )
    assert done.stdout.splitlines() == ["100", "0 1 0 0"]
    assert done.stderr == "bert-tokemb: error: cannot write standard output: Broken pipe\n"


def test_exit_codes_distinguish_errors(shell: Shell) -> None:
    done = shell(
        "set +e\n"
        "bert-tokemb embed text.txt -o a.pkl; echo $?\n"
        "bert-tokemb embed nowhere -o b.pkl; echo $?\n"
        "bert-tokemb embed text.txt; echo $?\n"
        "bert-tokemb embed text.txt -o b.pkl --server localhost:1; echo $?\n"
        "BERT_TOKEMB_MODEL=. bert-tokemb embed text.txt -o b.pkl; echo $?\n"
        "bert-tokemb embed text.txt -o b.pkl --strict || echo refused; ls"
    )
    assert done.stdout.split() == ["0", "1", "2", "3", "4", "a.pkl", "b.pkl", "text.txt"]


@pytest.mark.slow
def test_background_job_ignores_ctrl_c(shell: Shell) -> None:
    """Shells start background jobs with SIGINT ignored; `kill` ends them."""
    done = shell(
        "yes 'a b' | bert-tokemb embed - -o out.pkl & sleep 2; kill -INT $!; sleep 0.5\n"
        "kill -0 $! && kill $!; wait $! || echo $?; ls -A"
    )
    assert done.stdout.split() == ["143", "text.txt"]
