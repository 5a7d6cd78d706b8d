"""Errors that a user's mistake or an outside fault can cause.

Each message is one sentence that says what is wrong, without naming options of the command line.
The advice is added by :mod:`bert_tokemb.cli.advice`, from the fields of the error. Any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from .humanize import format_bytes

__all__ = [
    "PARSER_ERRORS",
    "BrokenPackageError",
    "CasedRefusedError",
    "CasedUnknownError",
    "DiskSpaceError",
    "FloatOverflowError",
    "InputError",
    "LongSentenceError",
    "MemoryShortageError",
    "MissingPackageError",
    "ModelError",
    "NonFiniteError",
    "OutputError",
    "OutputInUseError",
    "OutputNameError",
    "PiecesRefusedError",
    "RefusedWordError",
    "ResumeError",
    "ServerChangedError",
    "ServerError",
    "ServerGoneError",
    "ServerSettingsError",
    "ServerSilentError",
    "ServerUnreachableError",
    "StrategyError",
    "ThreadLimitError",
    "TokembError",
    "UnconvertedModelError",
    "UsageError",
    "reason",
    "translate",
]


class TokembError(Exception):
    """Base class of all errors that are not bugs."""


class UsageError(TokembError):
    """Invalid command line or arguments."""


class InputError(TokembError):
    """The text cannot be read, or is not UTF-8."""


class OutputError(TokembError):
    """The result cannot be written."""


class StrategyError(TokembError):
    """A strategy returned something other than one vector per word."""


class ServerError(TokembError):
    """The server cannot be reached, has unsuitable settings, or sends invalid replies."""


class ModelError(TokembError):
    """The model cannot be found, read or run."""


@dataclass(eq=False)
class MissingPackageError(TokembError):
    """Packages of an optional extra are not installed."""

    feature: str
    """What needs them, such as ``reading .zst files``."""
    extra: str
    packages: Sequence[str]
    alternative: str = ""
    """What the user can do instead."""

    def __str__(self) -> str:
        plural = "s" * (len(self.packages) > 1)
        alternative = f"; or {self.alternative}" if self.alternative else ""
        return (
            f"pip install 'bert-tokemb[{self.extra}]': {self.feature} needs the missing "
            f"package{plural} {', '.join(self.packages)}{alternative}"
        )


@dataclass(eq=False)
class BrokenPackageError(TokembError):
    """A package of an optional extra is installed, but cannot be imported."""

    feature: str
    """What needs it, such as ``reading .zst files``."""
    extra: str
    detail: str
    """What the import system reports."""
    alternative: str = ""
    """What the user can do instead."""

    def __str__(self) -> str:
        alternative = f"; or {self.alternative}" if self.alternative else ""
        return (
            f"{self.feature} needs an installed package that cannot be imported ({self.detail}): "
            f"repair or reinstall it{alternative}"
        )


@dataclass(eq=False)
class LongSentenceError(InputError):
    """A sentence has more pieces than the model or the server accepts."""

    line: int
    words: int
    limit: int
    """Maximum number of pieces, special tokens excluded."""
    limit_of: Literal["model", "max_seq_len", "server", "server's model"]
    """What sets the limit."""
    pieces: int | None = None
    """Pieces of the sentence; None if they are known only to exceed the limit."""
    model_limit: int | None = None
    """Maximum number of pieces of the model itself, special tokens included, if known."""
    special_tokens: Sequence[str] = ("[CLS]", "[SEP]")
    """The special tokens around the pieces of each sentence."""

    def __str__(self) -> str:
        pieces = f"{self.pieces} pieces, more" if self.pieces else "more pieces"
        sets = {
            "model": "the model accepts",
            "max_seq_len": "the maximum sequence length allows",
            "server": "the server's -max_seq_len allows",
            "server's model": "the server's model accepts",
        }[self.limit_of]
        addition = f" in addition to {' and '.join(self.special_tokens)}" * bool(
            self.special_tokens
        )
        return (
            f"line {self.line} ({self.words} word{'s' * (self.words != 1)}) has {pieces} "
            f"than the {self.limit} that {sets}{addition}"
        )


@dataclass(eq=False)
class RefusedWordError(InputError):
    """In strict mode: a word is unknown to the model or has no pieces."""

    line: int
    word: str
    problem: Literal["unknown", "without pieces"]

    def __str__(self) -> str:
        why = {
            "unknown": "is unknown to the model",
            "without pieces": "has no pieces: the tokenizer deletes all of its characters",
        }[self.problem]
        return f"line {self.line}: the word {self.word!r} {why}"


@dataclass(eq=False)
class FloatOverflowError(OutputError):
    """A value is too large for the data type of the output."""

    line: int
    dtype: str
    maximum: float
    wider: str
    """A data type that holds the value."""

    def __str__(self) -> str:
        return (
            f"line {self.line}: a value is too large for {self.dtype}, whose maximum is "
            f"{self.maximum:,.0f}"
        )


@dataclass(eq=False)
class NonFiniteError(OutputError):
    """The vector of a word contains NaN or infinity."""

    line: int
    word: str
    dtype: str
    """The data type in which the encoder computes."""

    def __str__(self) -> str:
        return f"line {self.line}: the vector of the word {self.word!r} contains NaN or infinity"


@dataclass(eq=False)
class OutputNameError(UsageError):
    """The output cannot have this name in this format."""

    name: str
    problem: Literal[
        "empty", "compressed", "unknown suffix", "directory", "not seekable", "terminal"
    ]
    format: str = "pkl"

    def __str__(self) -> str:
        return {
            "empty": "the name of the output is empty",
            "compressed": f"cannot write {self.name}: results are not compressed",
            "unknown suffix": f"cannot write {self.name}: no format has names that end like this",
            "directory": f"cannot write {self.name}: a result in the format {self.format} is a "
            "file, not a directory",
            "not seekable": f"cannot write {self.format} to {self.name}: only pkl can be written "
            "to a pipe, a device or a file that is already open",
            "terminal": f"cannot write to {self.name}: it is a terminal",
        }[self.problem]


@dataclass(eq=False)
class OutputInUseError(OutputError):
    """Another run is writing the same output."""

    name: str

    def __str__(self) -> str:
        return f"another run is writing {self.name}"


@dataclass(eq=False)
class DiskSpaceError(OutputError):
    """The result is larger than the free space on the disk."""

    name: str
    needed: int
    """Bytes still to be written, estimated."""
    free: int
    """Bytes."""
    can_be_halved: bool
    """Whether float16 instead of float32 is possible."""

    def __str__(self) -> str:
        return (
            f"cannot write {self.name}: it may take {format_bytes(self.needed)}, but only "
            f"{format_bytes(self.free)} are free on the disk"
        )


@dataclass(eq=False)
class ResumeError(UsageError):
    """A partial output exists that this run cannot resume."""

    name: str
    reasons: Sequence[str]
    kind: Literal["other command", "earlier version", "refused sentences", "damaged"] = (
        "other command"
    )

    def __str__(self) -> str:
        what = {
            "other command": f"{self.name} was started by a different command",
            "earlier version": f"{self.name} was started by another version of bert-tokemb",
            "refused sentences": f"{self.name} cannot be resumed",
            "damaged": f"the partial output of {self.name} is damaged",
        }[self.kind]
        return f"{what} ({'; '.join(self.reasons)})" if self.reasons else what


class CasedUnknownError(ModelError):
    """Nothing says whether the model is cased, and its vocabulary suggests that it is."""


@dataclass(eq=False)
class CasedRefusedError(UsageError):
    """Only BERT's own tokenizer can keep or remove capitals and accents."""

    path: Any
    """The file of the tokenizer."""
    kind: str
    """What the tokenizer is instead."""

    def __str__(self) -> str:
        return (
            f"{self.path} is the tokenizer of a model ({self.kind}) that decides by itself whether "
            "capitals and accents are kept"
        )


@dataclass(eq=False)
class UnconvertedModelError(ModelError):
    """The weights or the tokenizer of a model are stored in a format that has to be converted."""

    problem: str
    """Which files exist, and which one is missing."""
    part: Literal["weights", "tokenizer"]
    directory: str
    """The model, and where the converted files belong."""
    hub_id: str | None = None
    """The id of a model on the hub. It is converted as a whole, into a new directory."""

    def __str__(self) -> str:
        if self.hub_id:
            new = self.hub_id.rpartition("/")[2]
            code = (
                "from transformers import AutoModel as M, AutoTokenizer as T; "
                f"n, d = {_quote(self.hub_id)}, {_quote(new)}; "
                "M.from_pretrained(n).save_pretrained(d); T.from_pretrained(n).save_pretrained(d)"
            )
            return (
                f"{self.problem}: convert the model by python -c {shlex.quote(code)}, with torch, "
                f"transformers, sentencepiece and protobuf installed, and use the directory {new}"
            )
        name, what, packages = {
            "weights": ("AutoModel", "convert the model", "torch and transformers"),
            "tokenizer": ("AutoTokenizer", "write one", "transformers, sentencepiece and protobuf"),
        }[self.part]
        code = (
            f"from transformers import {name} as A; d = {_quote(self.directory)}; "
            "A.from_pretrained(d).save_pretrained(d)"
        )
        return f"{self.problem}: {what} by python -c {shlex.quote(code)}, with {packages} installed"


def _quote(text: str) -> str:
    """Return a string literal of Python, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


class MemoryShortageError(ModelError):
    """The model needs more memory than is available."""


class ThreadLimitError(ModelError):
    """The system does not allow another thread, or lacks the memory for one."""

    def __str__(self) -> str:
        return "the system does not allow another thread, or has no memory for one"


@dataclass(eq=False)
class ServerUnreachableError(ServerError):
    """No bert-serving-server answers at an address."""

    address: Any
    """A :class:`bert_tokemb.Address`."""
    problem: Literal["no connection", "no answer", "not a server"]
    detail: str = ""
    """The reason for "no connection", or the reply of what is "not a server"."""

    def __str__(self) -> str:
        host, port, port_out = self.address.host, self.address.port, self.address.port_out
        return {
            "no connection": f"no bert-serving-server at {host}, ports {port} and {port_out} "
            f"({self.detail})",
            "no answer": f"something listens at {host}, port {port}, but no bert-serving-server "
            f"answers from port {port_out}",
            "not a server": f"what listens at {self.address} is not a bert-serving-server: it sent "
            f"{self.detail}",
        }[self.problem]


@dataclass(eq=False)
class ServerSettingsError(ServerError):
    """The server was started without options that are needed."""

    address: Any
    """A :class:`bert_tokemb.Address`."""
    missing: Collection[str]
    """Options of ``bert-serving-start``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The server's settings."""

    def __str__(self) -> str:
        return (
            f"the server at {self.address} was started without {' and '.join(self.missing)}, so "
            "it does not return vectors of pieces"
        )


@dataclass(eq=False)
class ServerChangedError(ServerError):
    """The server was restarted with other settings during a run."""

    address: Any
    """A :class:`bert_tokemb.Address`."""
    changes: Mapping[str, tuple[Any, Any]]
    """The settings that differ: the values before and after."""

    def __str__(self) -> str:
        changes = "; ".join(
            f"{name} was {before!r} and is {after!r}"
            for name, (before, after) in self.changes.items()
        )
        return f"the server at {self.address} was restarted with other settings ({changes})"


class ServerGoneError(ServerError):
    """The server no longer listens."""


@dataclass(eq=False)
class ServerSilentError(ServerError):
    """The server did not answer a request within the time-out."""

    message: str
    timeout: float
    """Seconds."""

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class PiecesRefusedError(ServerError):
    """The server was sent pieces, as windows are, and used others."""

    line: int

    def __str__(self) -> str:
        return f"line {self.line}: the server was sent pieces, but returned other pieces"


PARSER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError among them: a JSON file of nothing but brackets
    SyntaxError,
    TypeError,
    ValueError,
)
"""What parsers raise on damaged data, as seen in fuzzing. For :func:`translate`."""


@contextmanager
def translate(
    error: Callable[[str], Exception],
    action: str,
    *,
    damage: tuple[type[Exception], ...] = (),
    damaged: str = "",
) -> Iterator[None]:
    """Raise exceptions of the system or of a library, raised within the block, as ``error``.

    Args:
        error: Makes the exception from a message.
        action: What the block does, such as ``write out.pkl``. An ``OSError`` becomes
            ``cannot {action}: {reason}``.
        damage: Exceptions that mean damaged data. They win over ``OSError``.
        damaged: The message for damaged data, such as ``model.h5 is damaged``; the detail is
            appended.

    >>> with translate(InputError, "read text"):
    ...     open("no/such/file")
    Traceback (most recent call last):
    bert_tokemb.errors.InputError: cannot read text: No such file or directory
    """
    try:
        yield
    except TokembError:
        raise
    except damage as foreign:
        detail = reason(foreign)
        raise error(f"{damaged}: {detail}" if detail else damaged) from foreign
    except OSError as foreign:
        raise error(f"cannot {action}: {reason(foreign)}") from foreign


_MAX_REASON = 400  # characters


def reason(error: BaseException) -> str:
    """Return the message of an exception on one line, without the file name of an OSError."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    # Parsers quote the data that they cannot read, whatever its size.
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}\u2026"
