"""Interrupted runs, and the same command again: the result is the same, byte for byte."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bert_tokemb
from support.command import invoke, load
from support.forked import at_step, limit_file_size
from support.resuming import RESUMED, RESUMING, Run, content, wait_for
from support.standin import StandIn
from support.texts import random_words
from support.tiny import write_tiny

LINES = [" ".join(random_words(Random(n), n % 31)) for n in range(600)]
LINES[250] = "hankcs " * 100  # too long for the model: it is embedded in windows

NAMES = pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])


@pytest.fixture
def run(shared_tiny: Path, tmp_path: Path) -> Run:
    return Run(tmp_path, LINES, "--model", shared_tiny, "--layers", "0,1,2")


@pytest.fixture(scope="module")
def expected(
    shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, bytes]]:
    """The result of a run that was not interrupted."""
    directory = tmp_path_factory.mktemp("expected")

    def expected(name: str, *options: str) -> dict[str, bytes]:
        run = Run(directory, LINES, "--model", shared_tiny, "--layers", "0,1,2", *options)
        run.output = directory / "-".join([*options, name])
        if not run.output.exists():
            done = run()
            assert done.returncode == 0, done.stderr
            assert not run.hidden
        return content(run.output)

    return lambda name, *options: {
        file if name.endswith(".npyd") else name: data
        for file, data in expected(name, *options).items()
    }


# --- Any moment -------------------------------------------------------------------------------


def kill_at_random_moments(run: Run, expected: dict[str, bytes], kills: int, seed: str) -> None:
    """Kill the run again and again, then let it complete."""
    random, killed, resumed = Random(seed), 0, 0
    while killed < kills or not run.saved:
        process, before = run.start(), run.saved
        if killed % 4:  # otherwise perhaps before it gets any further
            wait_for(lambda: run.saved > before or not process.is_running)  # noqa: B023
        wait_for(lambda: random.random() < 0.05)
        code, errors = process.kill()
        if run.output.exists():  # it was complete before it was killed
            assert content(run.output) == expected
            shutil.rmtree(run.output) if run.output.is_dir() else run.output.unlink()
            continue
        killed += 1
        assert run.saved >= before
        assert code == -signal.SIGKILL, errors
        resumed += bool(RESUMING.search(errors))
    saved = run.saved
    done = run()
    assert done.returncode == 0, done.stderr
    assert int(RESUMING.search(done.stderr)[1]) == saved + 1
    assert RESUMED.search(done.stderr)[1] == f"{saved:,}"
    assert content(run.output) == expected
    assert not run.hidden


@NAMES
def test_killed_run_resumes_with_the_same_bytes(
    name: str, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    run.output = run.directory / name
    kill_at_random_moments(run, expected(name), kills=3, seed=name)


@pytest.mark.slow
@NAMES
@pytest.mark.parametrize("seed", range(5))
def test_run_killed_many_times_resumes_with_the_same_bytes(
    seed: int, name: str, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    run.output = run.directory / name
    kill_at_random_moments(run, expected(name), kills=20, seed=f"{name} {seed}")


def interrupt_at_steps(
    run: Run, expected: dict[str, bytes], signum: int, steps: Iterable[int]
) -> tuple[int, int]:
    """Interrupt runs at changes of the file system; return how many were, and were complete."""
    interrupted = complete = 0
    for step in steps:
        if run.output.is_dir():
            shutil.rmtree(run.output)
        run.output.unlink(missing_ok=True)
        code, errors = run.start(before=at_step(step, signum)).wait()
        if code == 0:
            assert content(run.output) == expected
            complete += 1
            if complete == 3:  # the last step was some steps ago
                break
            continue
        interrupted += 1
        assert code == (-signum if signum == signal.SIGKILL else 128 + signum), errors
        done = run()
        assert done.returncode == 0, done.stderr
        assert content(run.output) == expected
        assert not run.hidden
    return interrupted, complete


@NAMES
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_run_interrupted_while_files_change_resumes(
    signum: int, name: str, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    run.output = run.directory / name
    interrupted, _ = interrupt_at_steps(run, expected(name), signum, (2, 7, 14))
    assert interrupted


@pytest.mark.slow
@NAMES
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_run_interrupted_at_every_change_of_a_file_resumes(
    signum: int, name: str, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    """The changes include the final renaming and the removal of the workspace."""
    run.output = run.directory / name
    run.options += ("--look-ahead", "2000000")  # a few chunks
    interrupted, complete = interrupt_at_steps(run, expected(name), signum, range(100))
    assert interrupted > 15
    assert complete == 3


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_signal_keeps_what_has_been_written(
    signum: int, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    process = run.start_and_pause(after=4000)
    process.send_signal(signum)
    code, errors = process.wait()
    assert code == 128 + signum
    kept, stopped = errors.splitlines()
    assert kept == (
        f"bert-tokemb: kept {run.saved} sentences; run the same command again to resume"
    )
    assert stopped.startswith(f"bert-tokemb: stopped by {signal.Signals(signum).name}")
    assert not run.output.exists()
    done = run()
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)
    assert RESUMING.match(done.stderr)
    assert content(run.output) == expected("out.pkl", "--strategy", "pause:avg")


@NAMES
def test_run_resumes_after_a_full_disk(
    name: str, run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    run.output = run.directory / name
    code, errors = run.start(before=limit_file_size(1 << 20)).wait()
    assert code == 1
    assert errors.splitlines()[-1].endswith(f"{name}: File too large")
    assert run.saved > 0
    done = run()
    assert RESUMING.match(done.stderr), done.stderr
    assert content(run.output) == expected(name)


@pytest.mark.parametrize("options", [(), ("--precision", "int8"), ("--strategy", "max")])
@NAMES
def test_broken_off_run_resumes_with_the_same_bytes(
    name: str, options: tuple[str, ...], run: Run, expected: Callable[..., dict[str, bytes]]
) -> None:
    run.output = run.directory / name
    run.options += options
    for line in (150, 350, 550):
        run.break_off(line)
    saved = run.saved
    done = run()
    assert done.returncode == 0, done.stderr
    assert int(RESUMING.match(done.stderr)[1]) == saved + 1
    assert RESUMED.search(done.stderr)[1] == f"{saved:,}"
    if "int8" not in options:  # whose vectors depend on the batch
        assert content(run.output) == expected(name, *options)
    assert not run.hidden


def test_run_resumes_after_the_server_has_stopped(tmp_path: Path) -> None:
    lines = [f"a b {n}" for n in range(3000)]
    run = Run(tmp_path, lines, "--timeout", "0.5", "--retries", "0")

    def die(server: StandIn, frames: list[bytes], texts: list[str]) -> list[list[bytes]] | None:
        if len(server.requests) > 20:
            server.stop()
            return []
        return None

    with StandIn(fault=die, width=64) as server:
        done = run("--server", server.address)
    assert done.returncode == 3
    assert "is gone" in done.stderr
    saved = run.saved
    assert 0 < saved < 3000
    with StandIn(width=64) as server:  # at another address
        done = run("--server", server.address)
    assert done.returncode == 0, done.stderr
    assert int(RESUMING.search(done.stderr)[1]) == saved + 1
    requested = [text for batch in server.requests[1:] for text in batch]
    assert sorted(requested) == sorted(lines[saved:])
    arrays = load(run.output)
    assert [len(array) for array in arrays] == [3] * 3000
    assert all(array.any(axis=1).all() for array in arrays)


# --- Another command --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--strategy", "last"), "strategy was avg and is last"),
        (("--dtype", "float16"), "dtype was float32 and is float16"),
        (("--layers", "0,1"), "layers was [-3, -2, -1] and is [-3, -2]"),
        (("--precision", "int8"), "precision was fp32 and is int8"),
        (("--blank-lines", "skip"), "blank_lines was keep and is skip"),
        (("--max-seq-len", "63"), "max_seq_len was 64 and is 63"),
        (
            ("--cased",),
            "do_lower_case was True and is False; strip_accents was True and is False",
        ),
        (("--format", "npyd"), "format was pkl and is npyd"),
        (("--format", "h5"), "format was pkl and is h5"),
    ],
)
def test_different_command_is_refused(options: tuple[str, ...], named: str, run: Run) -> None:
    run.break_off(350)
    before = run.state
    done = run(*options)
    assert done.returncode == 2
    assert f"was started by a different command ({named}); run that command" in done.stderr
    assert done.stderr.endswith("again to resume, or give --restart to start over\n")
    assert done.stderr.count("\n") == 1
    assert run.state == before
    assert RESUMING.match(run().stderr)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        ("embeddings.word_embeddings.weight", "the model has other weights"),
        ("encoder.layer.1.attention.self.key.weight", "the model has other weights"),
        ("encoder.layer.2.intermediate.dense.bias", "the model returns other vectors"),
    ],
)
def test_different_model_is_refused(
    tensor: str, named: str, precision: str, run: Run, tmp_path: Path
) -> None:
    """Models are different if a single piece, or only biases, differ."""
    model = write_tiny(tmp_path / "changed")
    run.options += ("--precision", precision)
    run.break_off(350)
    weights = load_file(model / "model.safetensors")
    changed = weights[tensor] if "bias" in tensor else weights[tensor][-1]
    changed += 0.1 * (1 + np.arange(len(changed)))
    save_file(weights, model / "model.safetensors")
    done = run("--model", model)
    assert done.returncode == 2
    assert f"was started by a different command ({named}" in done.stderr
    assert RESUMING.match(run().stderr)


def test_moved_model_is_accepted(
    run: Run, tmp_path: Path, expected: Callable[..., dict[str, bytes]]
) -> None:
    """The weights may have other names and be split into shards."""
    run.break_off(350)
    done = run("--model", write_tiny(tmp_path / "moved", prefix="bert.", shards=3))
    assert RESUMING.match(done.stderr), done.stderr
    assert content(run.output) == expected("out.pkl")


def test_different_encoder_is_refused(run: Run) -> None:
    """The message omits differences that follow from that of the encoder."""
    run.break_off(350)
    run.options = ()
    with StandIn() as server:
        done = run("--server", server.address)
    assert done.returncode == 2
    assert "(encoder was local and is server); run that" in done.stderr


def test_changed_strategy_is_refused(run: Run) -> None:
    plugin = run.directory / "plugin_that_changes.py"
    code = "def half(pieces):\n    return pieces[0] * {}\n"
    plugin.write_text(code.format("0.5"))
    run.options += ("--strategy", "plugin_that_changes:half")
    run.break_off(350)
    plugin.write_text(code.format("100"))
    done = run()
    assert done.returncode == 2
    assert "(the file of the strategy has changed); run that" in done.stderr
    plugin.write_text(code.format("0.5"))
    assert RESUMING.match(run().stderr)


def test_options_that_refuse_sentences_may_change(shared_tiny: Path, tmp_path: Path) -> None:
    """An option may be added as long as the partial output has no sentence that it refuses."""
    lines = [f"hank plays {'the ' * (n % 50)}" for n in range(2000)]
    lines[1000:1000] = ["hank " * 100, "\u2603"]
    run = Run(tmp_path, lines, "--model", shared_tiny, "--layers", "0,1,2")
    options = run.options
    run.options += ("--strict", "--long-sentences", "error")
    done = run()
    assert done.returncode == 1
    assert 500 < run.saved <= 1000
    assert "kept" in done.stderr
    run.options = options
    run.break_off(1900)
    for more, written in (
        (("--strict",), "it contains 1 unknown or empty word, which this run refuses"),
        (("--long-sentences", "error"), "it contains 1 long sentence, which this run refuses"),
    ):
        done = run(*more)
        assert done.returncode == 2
        assert written in done.stderr
        assert "give --restart to start over" in done.stderr
    assert RESUMING.match(run().stderr)
    resumed = load(run.output)
    run.output.unlink()
    assert run().returncode == 0
    for array, other in zip(resumed, load(run.output), strict=True):
        np.testing.assert_array_equal(array, other)


def test_changed_text_is_refused(run: Run) -> None:
    run.break_off(350)
    text = run.text.read_bytes()
    run.text.write_bytes(b"x" + text[1:])
    done = run()
    assert done.returncode == 2
    assert re.search(r"the first [\d,]+ lines of .*text have changed since", done.stderr)
    assert done.stderr.endswith("give --restart to start over\n")
    run.text.write_bytes(text[:1000])
    assert run().returncode == 2


def test_appended_text_is_accepted(run: Run) -> None:
    run.break_off(350)
    with run.text.open("a") as text:
        text.write("one more\n")
    done = run()
    assert RESUMING.match(done.stderr), done.stderr
    assert len(load(run.output)) == len(LINES) + 1


def test_compressed_text_is_resumed(run: Run, expected: Callable[..., dict[str, bytes]]) -> None:
    run.break_off(350)
    compressed = run.text.with_name("text.gz")
    compressed.write_bytes(gzip.compress(run.text.read_bytes()))
    run.text = compressed
    assert RESUMING.match(run().stderr)
    assert content(run.output) == expected("out.pkl")


# --- Starting over ----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [("pkl", "pkl"), ("pkl", "npyd"), ("npyd", "pkl")])
def test_restart_starts_over(old: str, new: str, run: Run) -> None:
    run.options += ("--format", old)
    run.break_off(350)
    run.options += ("--strategy", "last", "--format", new)
    done = run("--restart")
    assert done.returncode == 0
    assert not RESUMING.search(done.stderr)
    arrays = (bert_tokemb.open if new == "npyd" else load)(run.output)
    assert len(arrays) == len(LINES)
    assert not run.hidden


def test_restarted_run_can_be_resumed(run: Run) -> None:
    run.break_off(350)
    run.options += ("--strategy", "last", "--restart")
    run.break_off(250)
    run.options = run.options[:-1]
    assert RESUMING.match(run().stderr)


def test_restart_that_cannot_start_keeps_the_partial_output(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.break_off(350)
    before = run.state
    done = run("--restart", "--model", "no/such/model")
    assert (done.returncode, run.state) == (4, before)
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: os.statvfs_result([1] * 4 + [0] * 6))
        done = run("--restart")
    assert (done.returncode, run.state) == (1, before)
    assert "only 0 B are free" in done.stderr
    assert RESUMING.match(run().stderr)


def test_run_without_a_saved_state_allows_any_command(run: Run) -> None:
    run.break_off(350)
    (run.workspace / "state.json").unlink()
    done = run("--format", "npyd", "--strategy", "last")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert len(bert_tokemb.open(run.output)) == len(LINES)


@pytest.mark.parametrize(("format", "file"), [("pkl", "data"), ("npyd", "data/vectors.npy")])
def test_changed_partial_output_is_reported(format: str, file: str, run: Run) -> None:
    run.options += ("--format", format)
    run.break_off(350)
    with (run.workspace / file).open("r+b") as data:
        data.seek(1000)
        data.write(b"\xff\xff")
    done = run()
    assert done.returncode == 2
    assert "is damaged (its data have changed); give --restart to start over\n" in done.stderr
    assert run("--restart").returncode == 0


def test_shortened_partial_output_is_reported(run: Run) -> None:
    run.break_off(350)
    os.truncate(run.workspace / "data", 1000)
    done = run()
    assert done.returncode == 2
    assert "the partial output of" in done.stderr
    assert done.stderr.endswith("give --restart to start over\n")
    assert run("--restart").returncode == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: b"",
        lambda state: b"{}",
        lambda state: bytes(len(state)),
        lambda state: state[:-20],
        lambda state: state.replace(b'"settings"', b'"setting5"'),
    ],
    ids=["empty", "other JSON", "zeros", "cut off", "changed"],
)
def test_damaged_state_is_reported(damage: Callable[[bytes], bytes], run: Run) -> None:
    run.break_off(350)
    state = run.workspace / "state.json"
    state.write_bytes(damage(state.read_bytes()))
    done = run()
    assert done.returncode == 2
    assert "out.pkl is damaged; give --restart to start over\n" in done.stderr
    assert run("--restart").returncode == 0


def test_state_of_another_version_is_reported(run: Run) -> None:
    run.break_off(350)
    state = run.workspace / "state.json"
    state.write_bytes(b'{"format": "bert-tokemb partial output 1", "state": {}}')
    done = run()
    assert done.returncode == 2
    assert "out.pkl was started by another version of bert-tokemb; give --restart" in done.stderr
    assert run("--restart").returncode == 0


def test_partial_output_of_an_earlier_version_is_reported(run: Run) -> None:
    run.workspace.write_bytes(b"x")
    run.output.with_name(".out.pkl.journal").write_bytes(b"x")
    done = run()
    assert done.returncode == 2
    assert "out.pkl was started by another version of bert-tokemb; give --restart" in done.stderr
    assert run("--restart").returncode == 0
    assert not run.hidden


# --- Streams and other formats ----------------------------------------------------------------


def test_stream_does_not_replace_a_partial_output(run: Run) -> None:
    run.break_off(350)
    before, text = run.state, run.text.read_bytes()
    run.text = Path("-")
    done = run(stdin=text)
    assert done.returncode == 2
    assert "(standard input is a stream, which cannot be read again); run that" in done.stderr
    assert run.state == before
    done = run("--restart", stdin=text)
    assert done.returncode == 0, done.stderr
    assert len(load(run.output)) == len(LINES)


def test_stream_is_reported_as_not_resumable(run: Run) -> None:
    run.text = Path("-")
    text = "\n".join(LINES).encode()
    done = run(stdin=text + b"\n\xff\n")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "bert-tokemb: kept nothing: standard input is a stream, which cannot be read again\n"
    )
    assert not run.hidden
    assert run(stdin=text).returncode == 0


@pytest.mark.parametrize("format", ["h5", "parquet"])
def test_format_without_resuming_is_reported(format: str, run: Run) -> None:
    run.options += ("--format", format)
    why = "only .pkl and .npyd results can be resumed"
    run.text.write_bytes(b"a\n" * 2000 + b"\xff\n")
    done = run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"bert-tokemb: kept nothing: {why}\n")
    assert not run.hidden
    run.write_text()
    assert run.start(before=at_step(4, signal.SIGKILL)).wait()[0] == -signal.SIGKILL
    done = run()
    assert done.returncode == 0, done.stderr
    assert run.output.exists()
    assert not run.hidden


def test_failed_start_does_not_mention_resuming(run: Run) -> None:
    run.options = ("--format", "h5", "--model", run.directory / "nowhere")
    done = run()
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert not run.hidden


# --- Two runs ---------------------------------------------------------------------------------


def test_second_run_is_refused(run: Run, expected: Callable[..., dict[str, bytes]]) -> None:
    process = run.start_and_pause(after=4000)
    done = run()
    assert done.returncode == 1
    assert re.fullmatch(
        r"bert-tokemb: error: another run is writing .*/out\.pkl; wait for it, or choose another "
        r"name\n",
        done.stderr,
    )
    process.kill()
    assert RESUMING.match(run().stderr)
    assert content(run.output) == expected("out.pkl", "--strategy", "pause:avg")


def test_removed_workspace_is_reported(run: Run) -> None:
    process = run.start_and_pause(after=4000)
    run.workspace.rename(run.directory / "removed")
    process.send_signal(signal.SIGTERM)
    code, errors = process.wait()
    assert code == 128 + signal.SIGTERM
    assert "kept" not in errors
    assert not run.hidden


def test_result_to_standard_output_leaves_no_workspace(run: Run) -> None:
    arguments = map(str, run.arguments())
    done = invoke(*("-" if a == str(run.output) else a for a in arguments), cwd=run.directory)
    assert done.returncode == 0
    assert not run.hidden
