"""A result that is being written: a writer of its format, in a workspace or on a stream."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ..errors import OutputNameError
from ..signals import hold_signals
from ..storage.stream import open_stream
from ..storage.target import OutputTarget
from ..storage.workspace import Workspace
from ..types import EmbeddedSentence
from .base import Content, OpenFile, Position, Writer
from .registry import Format

__all__ = ["Output"]


class Output:
    """Takes one sentence after the other; a context manager.

    :meth:`commit` puts the result in place. If the block ends without it, what has been written
    stays for a later run if :meth:`checkpoint` has saved a state, and is removed otherwise.

    Args:
        target: Where the result goes.
        format: Its format.
        restart: Whether the partial output of an earlier version may be discarded.

    Attributes:
        is_started: Whether anything may have been written.
        is_complete: Whether the result has been committed.

    Raises:
        OutputNameError: if the target is a terminal, or a stream and the format needs a file.
        OutputError: if it cannot be written.
        MissingPackageError: if the format needs a package that is not installed.
    """

    _writer: Writer

    def __init__(self, target: OutputTarget, format: Format, *, restart: bool = False) -> None:
        self.target = target
        self.format = format
        format.writer.check_packages()
        self._workspace: Workspace | None = None
        self.is_started = self.is_complete = False
        with ExitStack() as closing:
            if target.is_stream:
                if not format.writer.is_streamable:
                    raise OutputNameError(target.name, "not seekable", format.name)
                # A signal must end the wait for a reader of a pipe.
                descriptor = closing.enter_context(open_stream(target))
                self._open_file: OpenFile = lambda *args, **kept: descriptor
            else:
                with hold_signals():  # a signal must not leave an empty workspace
                    self._workspace = closing.enter_context(
                        Workspace(
                            target,
                            directory=format.writer.is_directory,
                            may_replace=format.writer.may_replace,
                            restart=restart,
                        )
                    )
                self._open_file = self._workspace.open
            self._closing = closing.pop_all()

    @property
    def is_resumable(self) -> bool:
        """Whether an interrupted run can be resumed."""
        return self._workspace is not None and self.format.writer.is_resumable

    @property
    def saved_state(self) -> Mapping[str, Any] | None:
        """The last state that :meth:`checkpoint` has saved, in this run or in one before."""
        return self._workspace.state if self._workspace else None

    @property
    def leftover(self) -> int:
        """Bytes that an interrupted run has left."""
        return self._workspace.leftover if self._workspace else 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    def start(self, content: Content, position: Position | None = None) -> None:
        """Start writing.

        Args:
            content: What the result will contain.
            position: Where to resume an interrupted run. If empty, its partial output is removed.

        Raises:
            ResumeError: if the partial output is not the one that ``position`` describes.
            OutputError: if the result cannot be written.
        """
        if self._workspace and position is None:
            self._workspace.discard()
        name = self.target.name
        self._writer = self.format.writer(name, self._open_file, content, position)
        self.is_started = True

    def write(self, sentence: EmbeddedSentence) -> None:
        """Append a sentence.

        Raises:
            OutputError: if it cannot be written.
        """
        self._writer.write(sentence)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save a state and the position, from which an interrupted run can resume.

        It is saved when everything written so far is on disk, in another thread.
        """
        if self._workspace and self.is_resumable:
            self._workspace.checkpoint({**state, "position": dict(self._writer.position())})

    def finish(self) -> None:
        """Write what follows the last sentence and put everything on disk, which may take a while.

        Raises:
            OutputError: if this fails. A later run can resume.
        """
        self._writer.finish()
        if self._workspace:
            self._workspace.sync()

    def commit(self) -> None:
        """Give the result its name. This takes no time and should not be interrupted.

        Raises:
            OutputError: if this fails.
        """
        if self._workspace:
            self._workspace.commit()
        self.is_complete = True

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._closing:
            if self.is_started and not self.is_complete:
                self._writer.abandon()
