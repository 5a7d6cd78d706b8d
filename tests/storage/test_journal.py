"""The journal by itself: what it tells the next run, and when."""

from __future__ import annotations

import fcntl
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from bert_tokemb.errors import OutputError
from bert_tokemb.storage.journal import Journal, open_journal


def journal_of(directory: Path) -> Journal:
    """Open the journal of a result of which something is there."""
    (directory / ".out.partial").touch()
    journal = open_journal(str(directory / "out"))
    assert journal is not None
    return journal


def file_of(directory: Path) -> Path:
    return directory / ".out.journal"


def nothing_to_sync() -> None:
    pass


def test_the_next_run_is_told(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        assert (journal.asked, journal.reached) == (None, None)
        journal.begin({"strategy": "avg"})
        for n in range(3):
            journal.note({"sentences": n}, nothing_to_sync)
            # By itself, and soon.
            end = time.monotonic() + 60
            while journal.reached != {"sentences": n} and time.monotonic() < end:
                time.sleep(0.001)
    with journal_of(tmp_path) as journal:
        assert (journal.asked, journal.reached) == ({"strategy": "avg"}, {"sentences": 2})
        journal.done()
    assert not file_of(tmp_path).exists()


def test_of_what_is_not_there_it_tells_nothing(tmp_path: Path) -> None:
    """It was renamed, just before the end."""
    with journal_of(tmp_path) as journal:
        journal.begin({"strategy": "avg"})
        journal.note({"sentences": 1}, nothing_to_sync)
        journal.settle()
    (tmp_path / ".out.partial").rename(tmp_path / "out")
    with open_journal(str(tmp_path / "out")) as journal:
        assert (journal.asked, journal.reached) == (None, None)
        journal.begin({"strategy": "last"})
        journal.note({"sentences": 7}, nothing_to_sync)
        journal.settle()
        # Nor does one help of which somebody has removed what it tells of.
        assert not journal.is_of_use
    assert not file_of(tmp_path).exists()


def test_one_that_somebody_has_removed_is_of_no_use(tmp_path: Path) -> None:
    """And what another run has put in its place stays."""
    with journal_of(tmp_path) as journal:
        journal.begin({"strategy": "avg"})
        journal.note({"sentences": 1}, nothing_to_sync)
        journal.settle()
        assert journal.is_of_use
        file_of(tmp_path).unlink()
        assert not journal.is_of_use
        file_of(tmp_path).write_text("another")
        assert not journal.is_of_use
    assert file_of(tmp_path).read_text() == "another"


def test_whoever_begins_anew_has_come_nowhere(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        journal.begin({"strategy": "avg"})
        journal.note({"sentences": 1}, nothing_to_sync)
        journal.settle()
    with journal_of(tmp_path) as journal:
        journal.begin({"strategy": "last"})
        assert not journal.is_of_use
    assert not file_of(tmp_path).exists()


def test_what_is_not_on_disk_is_not_noted(tmp_path: Path) -> None:
    def full() -> None:
        raise OutputError("cannot write out: No space left on device")

    with journal_of(tmp_path) as journal:
        journal.begin({})
        journal.note({"sentences": 1}, nothing_to_sync)
        journal.settle()
        journal.note({"sentences": 2}, full)
        journal.settle()
        assert journal.reached == {"sentences": 1}
    with journal_of(tmp_path) as journal:
        assert journal.reached == {"sentences": 1}


@pytest.mark.parametrize("room", [0, 10])
def test_what_there_is_no_room_to_note_was_not_reached(room: int, tmp_path: Path) -> None:
    """A disk that is full takes nothing, or the beginning."""
    with journal_of(tmp_path) as journal:
        journal.begin({})
        journal.note({"sentences": 1}, nothing_to_sync)
        journal.settle()
        file = file_of(tmp_path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room, limits[1]))
        try:
            journal.note({"sentences": 2}, nothing_to_sync)
            journal.settle()
            assert journal.reached == {"sentences": 1}
            with pytest.raises(OutputError, match="cannot write .*out"):
                journal.begin({"more": "x" * 1000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_note_that_was_cut_short(tmp_path: Path) -> None:
    """By nothing but its end; what is noted behind it is found nevertheless."""
    with journal_of(tmp_path) as journal:
        journal.begin({})
        for n in range(3):
            journal.note({"sentences": n}, nothing_to_sync)
            journal.settle()
    file = file_of(tmp_path)
    os.truncate(file, file.stat().st_size - 1)
    with journal_of(tmp_path) as journal:
        assert journal.reached == {"sentences": 1}
        journal.note({"sentences": 7}, nothing_to_sync)
        journal.settle()
    with journal_of(tmp_path) as journal:
        assert journal.reached == {"sentences": 7}


def test_the_journal_of_one_that_is_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened when it was there still, and locked when it was gone."""
    lock, removed = fcntl.flock, list[Path]()

    def lock_what_is_gone(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(file_of(tmp_path))
            removed[0].unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_what_is_gone)
    with journal_of(tmp_path):
        assert file_of(tmp_path).exists()
        with pytest.raises(OutputError, match="another run is writing"):
            journal_of(tmp_path)


def test_the_last_one_counts_and_is_waited_for(tmp_path: Path) -> None:
    """A note takes its time; of those that come meanwhile only the last is made."""
    synced, may_go_on = list[int](), threading.Event()

    def sync(n: int) -> None:
        may_go_on.wait(60)
        synced.append(n)

    with journal_of(tmp_path) as journal:
        journal.begin({})
        for n in range(5):
            journal.note({"sentences": n}, lambda n=n: sync(n))
        threading.Timer(0.2, may_go_on.set).start()
        journal.settle()
        assert synced in ([0, 4], [4])
        assert journal.reached == {"sentences": 4}


def test_two_at_a_time(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        with pytest.raises(OutputError, match="another run is writing"):
            journal_of(tmp_path)
        assert not journal.is_of_use
    assert not file_of(tmp_path).exists()


def test_none_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    assert open_journal(str(tmp_path / "out")) is None
    assert open_journal("-") is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
