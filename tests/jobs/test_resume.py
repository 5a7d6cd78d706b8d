"""Runs that are interrupted, and the same command again."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bert_tokemb
from support.command import load
from support.interrupted import CONTINUING, SLOWLY, TAKEN_OVER, Run, content
from support.standin import StandIn
from support.texts import random_words
from support.tiny import write_tiny

LINES = [" ".join(random_words(Random(n), n % 31)) for n in range(3000)]


@pytest.fixture
def engine_run(shared_tiny: Path, tmp_path: Path) -> Run:
    return Run(tmp_path, LINES, "--model", shared_tiny, "--layers", "0,1,2")


@pytest.fixture(scope="module")
def undisturbed(
    shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, bytes]]:
    directory = tmp_path_factory.mktemp("undisturbed")
    run = Run(directory, LINES, "--model", shared_tiny, "--layers", "0,1,2")

    def undisturbed(name: str) -> dict[str, bytes]:
        run.output = directory / name
        if not run.output.exists():
            code, told = run()
            assert code == 0, told
            assert not run.leftovers
        return content(run.output)

    return undisturbed


@pytest.mark.parametrize(("name", "times"), [("out.pkl", 20), ("out.npyd", 10)])
def test_killed_at_any_moment(
    name: str,
    times: int,
    engine_run: Run,
    undisturbed: Callable[[str], dict[str, bytes]],
) -> None:
    engine_run.output = engine_run.directory / name
    random, killed, taken_over = Random(name), 0, 0
    while killed < times or not engine_run.reached:
        n = killed
        process = engine_run.start()
        before = engine_run.reached
        # Now and then before it has come any further.
        while n % 4 and engine_run.reached <= before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.05 if n % 4 else 0.5))
        process.kill()
        _, told = process.communicate(timeout=60)
        if engine_run.output.exists():  # the machine was slow to kill it
            assert content(engine_run.output) == undisturbed(name)
            shutil.rmtree(engine_run.output) if name == "out.npyd" else engine_run.output.unlink()
            continue
        killed += 1
        assert engine_run.reached >= before
        assert process.returncode == -signal.SIGKILL, told
        taken_over += bool(CONTINUING.search(told))
    assert taken_over > times / 2
    begun = engine_run.reached
    code, told = engine_run()
    assert code == 0, told
    assert int(CONTINUING.search(told).group(1)) == begun + 1
    assert TAKEN_OVER.search(told).group(1) == f"{begun:,}"
    assert content(engine_run.output) == undisturbed(name)
    assert not engine_run.leftovers


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
@pytest.mark.parametrize("moment", [1, 2])
def test_killed_when_it_was_all_but_done(
    name: str, moment: int, engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    """Just before, or just after, something takes its name."""
    engine_run.output = engine_run.directory / name
    assert engine_run()[0] == 0  # an older one to be replaced
    crash = (
        "import os, pathlib\n"
        "for name in ('rename', 'replace'):\n"
        "    def crash(self, target, old=getattr(pathlib.Path, name)):\n"
        f"        {'old(self, target); ' if moment == 2 else ''}os._exit(9)\n"
        "    setattr(pathlib.Path, name, crash)\n"
    )
    assert engine_run(before=crash)[0] == 9
    code, told = engine_run()
    assert code == 0, told
    assert content(engine_run.output) == undisturbed(name)
    assert not engine_run.leftovers


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal(
    signum: int, engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    told = engine_run.interrupt(signum, beyond=300)
    name = signal.Signals(signum).name
    reached = engine_run.reached
    assert told == (
        f"bert-tokemb: {reached:,} sentences are kept, the same command goes on behind them\n"
        f"bert-tokemb: stopped by {name}, no file was written\n"
    )
    assert not engine_run.output.exists()
    told = engine_run.interrupt(signum, beyond=reached)
    assert told.splitlines()[1].startswith(
        f"bert-tokemb: {engine_run.reached:,} sentences are kept"
    )
    code, told = engine_run()
    assert (code, told.count("\n")) == (0, 2)
    assert content(engine_run.output) == undisturbed("out.pkl")


def test_a_full_disk(engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    code, told = engine_run(preexec_fn=limit)
    assert code == 1
    assert told.splitlines()[-1].endswith("out.pkl: File too large")
    assert engine_run.reached > 0
    code, told = engine_run()
    assert code == 0
    assert CONTINUING.match(told)
    assert content(engine_run.output) == undisturbed("out.pkl")


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
@pytest.mark.parametrize(
    "moment", ["settling", "settling after an error", "syncing", "signal", "full disk"]
)
def test_stopped_when_it_was_all_but_done(
    name: str, moment: str, engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    """What is left to do takes its time: to put on disk what was written, and to rename it."""
    engine_run.output = engine_run.directory / name
    stop = "import os, signal, bert_tokemb.storage.journal\n"
    if moment.startswith("settling"):
        stop += (
            "Journal = bert_tokemb.storage.journal.Journal\n"
            "def settle(self, old=Journal.settle):\n"
            "    old(self)\n"
            "    Journal.settle = old\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "Journal.settle = settle\n"
        )
        if "error" in moment:
            stop += (
                "import bert_tokemb.jobs.job\n"
                "def fail(*_):\n    raise OSError\n"
                "bert_tokemb.jobs.job.Progress.__exit__ = fail\n"
            )
    elif moment == "syncing":
        # In the last note, and by the thread that is stopped by it.
        stop += (
            "import threading\n"
            "from bert_tokemb.formats.npyd import NpydOutput\n"
            "from bert_tokemb.formats.pickle_file import PickleFile\n"
            "def stopped(sync):\n"
            "    def stopping(self, asked=[]):\n"
            "        if threading.current_thread() is threading.main_thread() and not asked:\n"
            "            asked.append(1)\n"
            "            os.kill(os.getpid(), signal.SIGTERM)\n"
            "        sync(self)\n"
            "    return stopping\n"
            "for kind in PickleFile, NpydOutput: kind.sync = stopped(kind.sync)\n"
            "Journal = bert_tokemb.storage.journal.Journal\n"
            "def note(self, reached, sync): self._last.append((reached, sync))\n"
            "Journal.note = note\n"
        )
    elif moment == "signal":
        stop += (
            "from bert_tokemb.formats.npyd import NpydOutput\n"
            "from bert_tokemb.formats.pickle_file import PickleFile\n"
            "Journal = bert_tokemb.storage.journal.Journal\n"
            "def settle(self, old=Journal.settle):\n"
            "    old(self)\n"
            "    PickleFile.sync = NpydOutput.sync = lambda self: os.kill(os.getpid(), 15)\n"
            "Journal.settle = settle\n"
        )
    else:
        stop += (
            "def full(_):\n    raise OSError(28, 'No space left on device')\n"
            "Journal = bert_tokemb.storage.journal.Journal\n"
            "def settle(self, old=Journal.settle):\n"
            "    old(self)\n"
            "    os.fsync = full\n"
            "Journal.settle = settle\n"
        )
    code, told = engine_run(before=stop)
    assert code == (1 if moment == "full disk" else 128 + signal.SIGTERM), told
    assert engine_run.reached == len(LINES)
    code, told = engine_run()
    assert code == 0, told
    assert CONTINUING.match(told)
    assert content(engine_run.output) == undisturbed(name)
    assert not engine_run.leftovers


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
def test_too_late_to_be_stopped(name: str, engine_run: Run) -> None:
    """From the moment that the result is renamed."""
    engine_run.output = engine_run.directory / name
    stop = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "def rename(self, target, rename=Path.rename):\n"
        "    rename(self, target)\n"
        "    os.kill(os.getpid(), signal.{signal})\n"
        "Path.rename = Path.replace = rename\n"
    )
    code, told = engine_run(before=stop.format(signal="SIGTERM"))
    assert code == 0, told
    assert "3,000 sentences" in told
    assert not engine_run.leftovers
    engine_run.output = engine_run.directory / f"second{engine_run.output.suffix}"
    code, told = engine_run(before=stop.format(signal="SIGKILL"))
    assert code == -signal.SIGKILL
    assert engine_run.output.exists()
    # It is done: so whatever comes next is another run.
    code, told = engine_run("--strategy", "last")
    assert code == 0, told
    assert "anew" not in told
    assert not engine_run.leftovers


def test_a_server_that_went_away(tmp_path: Path) -> None:
    """What is written is not asked for again, and the server may be somewhere else by then."""
    lines = [f"word{n} and {n}" for n in range(3000)]
    run = Run(tmp_path, lines, "--timeout", "1", "--retries", "0")

    def die(server: StandIn, *_: object) -> None:
        if run.reached > 500:
            server.stop()

    with StandIn(fault=die, width=64) as server:
        code, told = run("--server", server.address)
    assert code == 3
    assert "is gone" in told
    reached = run.reached
    assert 500 < reached < 3000
    with StandIn(width=64) as server:
        code, told = run("--server", server.address)
    assert code == 0, told
    assert int(CONTINUING.search(told).group(1)) == reached + 1
    asked = [text for batch in server.requests[1:] for text in batch]
    assert sorted(asked) == sorted(lines[reached:])
    arrays = load(run.output)
    assert [len(array) for array in arrays] == [3] * 3000
    assert all(array.any(axis=1).all() for array in arrays)


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
    ],
)
def test_another_command_is_refused(options: tuple[str, ...], named: str, engine_run: Run) -> None:
    engine_run.interrupt(beyond=100)
    before = content(engine_run.journal)
    code, told = engine_run(*options)
    assert code == 2
    assert f"was begun by another command ({named})" in told
    assert told.endswith(": run that one again to go on, or give --restart to begin anew\n")
    assert told.count("\n") == 1
    # Nothing is lost by it.
    assert content(engine_run.journal) == before
    assert CONTINUING.match(engine_run()[1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("tensor", "told_of_it"),
    [
        ("embeddings.word_embeddings.weight", "the model has other weights"),
        ("encoder.layer.1.attention.self.key.weight", "the model has other weights"),
        ("encoder.layer.2.intermediate.dense.bias", "the model gives other vectors"),
    ],
)
def test_another_model_is_refused(
    tensor: str, told_of_it: str, precision: str, engine_run: Run, tiny: Path
) -> None:
    """Though it differs in a single piece only, or in biases only."""
    engine_run.options += ("--precision", precision)
    engine_run.interrupt(beyond=100)
    weights = load_file(tiny / "model.safetensors")
    changed = weights[tensor] if "bias" in tensor else weights[tensor][-1]
    changed += 0.1 * (1 + np.arange(len(changed)))
    save_file(weights, tiny / "model.safetensors")
    code, told = engine_run("--model", tiny)
    assert code == 2
    assert f"was begun by another command ({told_of_it}" in told
    assert CONTINUING.match(engine_run()[1])


def test_a_model_may_move(
    engine_run: Run, tmp_path: Path, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    """And be stored in another way."""
    engine_run.interrupt(beyond=100)
    moved = write_tiny(tmp_path / "moved", prefix="bert.", shards=3)
    code, told = engine_run("--model", moved)
    assert code == 0, told
    assert CONTINUING.match(told)
    assert content(engine_run.output) == undisturbed("out.pkl")


def test_another_encoder_is_refused(engine_run: Run) -> None:
    """And what else follows from that is not told."""
    engine_run.interrupt(beyond=100)
    engine_run.options = ()
    with StandIn() as server:
        code, told = engine_run("--server", server.address)
    assert code == 2
    assert "was begun by another command (encoder was engine and is server): run that" in told


HALVES = """
def ends(pieces):
    return (pieces[0] + pieces[-1]) * {factor}
"""


def test_a_strategy_that_was_changed_is_refused(
    engine_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what interrupted the run, and was mended since."""
    monkeypatch.chdir(engine_run.directory)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    halves = engine_run.directory / "halves.py"
    halves.write_text(HALVES.format(factor="0.5"))
    engine_run.options += ("--strategy", "halves:ends")
    engine_run.interrupt(beyond=100)
    halves.write_text(HALVES.format(factor="100"))
    code, told = engine_run()
    assert code == 2
    assert "was begun by another command (the strategy's file has changed): run that" in told
    halves.write_text(HALVES.format(factor="0.5"))
    assert CONTINUING.match(engine_run()[1])


def test_what_refuses_may_be_taken_back(shared_tiny: Path, tmp_path: Path) -> None:
    """Nothing that is written depends on it; and may be given, if it refuses nothing of that."""
    lines = [f"hank plays {'the ' * (n % 50)}" for n in range(3000)]
    lines[1000:1000] = ["hank " * 100, "\u2603"]
    run = Run(tmp_path, lines, "--model", shared_tiny, "--layers", "0,1,2")
    whole = Run(tmp_path, lines, *run.options)
    whole.output = tmp_path / "whole.pkl"
    assert whole()[0] == 0
    run.options += ("--strict", "--long-sentences", "error")
    code, told = run()
    assert code == 1
    assert 500 < run.reached <= 1000, told
    assert "sentences are kept" in told
    run.options = whole.options
    assert CONTINUING.match(run.interrupt(beyond=1010))
    for option, met in (("--strict", "1 unknown or empty word"), ("--long-sentences", "error")):
        arguments = (option,) if option == "--strict" else (option, met)
        told = run(*arguments)[1]
        assert "that an interrupted run has written already: give --restart" in told, told
    assert CONTINUING.match(run()[1])
    assert content(run.output)["out.pkl"] == content(whole.output)["whole.pkl"]


def test_what_cannot_begin_anew_destroys_nothing(engine_run: Run) -> None:
    """What is refused at once leaves what was kept."""
    engine_run.interrupt(beyond=1000)
    reached, before = engine_run.reached, content(engine_run.journal)
    no_room = (
        "import os\nclass Room:\n    f_frsize, f_bavail = 1, 0\nos.statvfs = lambda path: Room\n"
    )
    for more, where, what in (
        ((), no_room, "the disk has room for 0 B"),
        (("--model", "no/pe"), "", "no/pe"),
    ):
        code, told = engine_run("--restart", *more, before=where)
        assert code, told
        assert what in told
        assert engine_run.reached == reached
        assert content(engine_run.journal) == before
    assert CONTINUING.match(engine_run()[1])


def test_another_text_is_refused(engine_run: Run) -> None:
    engine_run.interrupt(beyond=100)
    text = engine_run.text.read_bytes()
    engine_run.text.write_bytes(b"x" + text[1:])
    code, told = engine_run()
    assert code == 2
    assert re.search(r"the first [\d,]+ lines of .* are not those any more of which", told)
    assert told.endswith("give --restart to begin anew\n")
    engine_run.text.write_bytes(text[:1000])
    assert engine_run()[0] == 2
    # What comes behind may be another one.
    engine_run.text.write_bytes(text + b"one more\n")
    code, told = engine_run()
    assert code == 0
    assert CONTINUING.match(told)
    assert len(load(engine_run.output)) == len(LINES) + 1


def is_begun_anew(run: Run) -> bool:
    return '"strategy": "last"' in run.journal.read_text().partition("\n")[0]


@pytest.mark.parametrize(("one", "other"), [("pkl", "pkl"), ("pkl", "npyd"), ("npyd", "pkl")])
def test_restart(one: str, other: str, engine_run: Run) -> None:
    engine_run.options += ("--format", one)
    engine_run.interrupt(beyond=100)
    engine_run.options += ("--strategy", "last", "--format", other)
    process = engine_run.start("--restart")
    while not (is_begun_anew(engine_run) and engine_run.reached) and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=60)
    # It is this run that is gone on with.
    assert "continuing" in engine_run.interrupt(beyond=engine_run.reached)
    code, told = engine_run("--restart")
    assert code == 0
    assert not CONTINUING.search(told)
    arrays = (bert_tokemb.open if other == "npyd" else load)(engine_run.output)
    assert len(arrays) == len(LINES)
    assert not engine_run.leftovers


def test_what_came_nowhere_binds_nobody(engine_run: Run) -> None:
    engine_run.interrupt(beyond=100)
    begin, *_ = engine_run.journal.read_bytes().splitlines(keepends=True)
    engine_run.journal.write_bytes(begin)
    code, told = engine_run("--format", "npyd", "--strategy", "last")
    assert code == 0, told
    assert "anew" not in told
    assert len(bert_tokemb.open(engine_run.output)) == len(LINES)


@pytest.mark.parametrize(
    "damage", ["cut", "garbage", "another's", "changed", "no partial file", "a shorter one"]
)
def test_what_was_left_is_damaged(
    damage: str, engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    engine_run.interrupt(beyond=1000)
    partial = engine_run.output.with_name(".out.pkl.partial")
    if damage == "cut":
        entries = engine_run.journal.read_bytes().splitlines(keepends=True)
        engine_run.journal.write_bytes(b"".join(entries[:-1]) + entries[-1][:-5])
    elif damage == "garbage":
        engine_run.journal.write_bytes(b"\xff\n" + engine_run.journal.read_bytes())
    elif damage == "another's":
        engine_run.journal.write_text('{"format": "pkl"}\n{"text": {"lines": "x"}}\n')
    elif damage == "changed":
        found = engine_run.journal.read_bytes()
        engine_run.journal.write_bytes(found.replace(b'"sentences": ', b'"sentences": 1'))
    elif damage == "no partial file":
        partial.unlink()
    else:
        os.truncate(partial, 1000)
    if damage == "cut":  # what comes behind is noted nevertheless
        engine_run.interrupt(beyond=2000)
    code, told = engine_run()
    assert code == 0, told
    assert bool(CONTINUING.match(told)) == (damage == "cut")
    assert damage != "cut" or int(CONTINUING.match(told).group(1)) > 2001
    begun_anew = "bert-tokemb: beginning anew: what an interrupted run has left is not whole\n"
    assert told.startswith(begun_anew) == ("shorter" in damage)
    assert content(engine_run.output) == undisturbed("out.pkl")
    assert not engine_run.leftovers


def test_two_at_a_time(engine_run: Run) -> None:
    process = engine_run.start(before=SLOWLY)
    while not engine_run.reached:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    code, told = engine_run()
    assert code == 1
    assert re.fullmatch(
        r"bert-tokemb: error: another run is writing .*/out\.pkl: wait for it, or name another "
        r"output\n",
        told,
    )
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(load(engine_run.output)) == len(LINES)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")])
def test_no_file_where_the_journal_is(make: Callable[[Path], None], engine_run: Run) -> None:
    make(engine_run.journal)
    code, told = engine_run()
    assert code == 1
    assert told.endswith(
        f"out.pkl: {engine_run.journal} is not what a run leaves there, remove it\n"
    )
    assert engine_run.leftovers == {engine_run.journal.name}


def test_the_journal_is_removed_meanwhile(
    engine_run: Run, undisturbed: Callable[[str], dict[str, bytes]]
) -> None:
    """Then there is nothing to go on with; but nobody else writes into the same file."""
    process = engine_run.start(before=SLOWLY)
    while not engine_run.reached:
        time.sleep(0.002)
    engine_run.journal.unlink()
    code, told = engine_run("--strategy", "max")
    assert code == 1
    assert "another run is writing" in told
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert content(engine_run.output) == undisturbed("out.pkl")
    assert not engine_run.leftovers


def test_a_stream_does_not_take_the_place_of_what_is_kept(engine_run: Run) -> None:
    engine_run.interrupt(beyond=100)
    before = content(engine_run.journal)
    with engine_run.text.open() as text:
        engine_run.text = Path("-")
        code, told = engine_run(stdin=text)
        assert code == 2
        assert told.endswith(
            "out.pkl was begun by another command (a stream cannot be read again): run that one "
            "again to go on, or give --restart to begin anew\n"
        )
        assert content(engine_run.journal) == before
        code, told = engine_run("--restart", stdin=text)
    assert code == 0, told
    assert len(load(engine_run.output)) == len(LINES)


def test_streams_are_never_continued(engine_run: Run) -> None:
    with engine_run.text.open() as text:
        engine_run.text = Path("-")
        process = engine_run.start(stdin=text)
        while (
            sum(p.stat().st_size for p in engine_run.directory.glob(".out.pkl.partial")) < 1 << 20
        ):
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=60)
    with (engine_run.directory / "text").open() as text:
        code, told = engine_run(stdin=text)
    assert code == 0
    assert told.startswith("bert-tokemb: beginning anew: a stream cannot be read again\n")
    assert not engine_run.leftovers


@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_other_formats_begin_anew_and_say_so(kind: str, engine_run: Run) -> None:
    engine_run.options += ("--format", kind)
    # A group of rows has 32 MiB.
    engine_run.text.write_bytes(engine_run.text.read_bytes() * 4)
    partial = engine_run.directory / ".out.pkl.partial"

    def interrupt(signum: int) -> str:
        process = engine_run.start()
        while not partial.exists() or partial.stat().st_size < 1 << 20:
            time.sleep(0.01)
        process.send_signal(signum)
        return process.communicate(timeout=60)[1]

    why = "only .pkl and .npyd can be continued"
    told = interrupt(signal.SIGTERM)
    assert told.splitlines()[0] == f"bert-tokemb: nothing is kept: {why}"
    assert not engine_run.leftovers
    interrupt(signal.SIGKILL)
    code, told = engine_run()
    assert code == 0, told
    assert told.splitlines()[0] == f"bert-tokemb: beginning anew: {why}"
    assert engine_run.output.exists()
    assert not engine_run.leftovers


def test_nothing_is_told_of_what_was_not_begun(engine_run: Run) -> None:
    engine_run.options = ("--format", "h5", "--model", engine_run.directory / "nowhere")
    code, told = engine_run()
    assert code
    assert told.count("\n") == 1


def test_compressed_texts_are_continued(engine_run: Run) -> None:
    engine_run.interrupt(beyond=300)
    subprocess.run(["gzip", engine_run.text], check=True)
    engine_run.text = engine_run.text.with_name("text.gz")
    assert CONTINUING.match(engine_run()[1])
