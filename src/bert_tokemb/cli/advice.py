"""Advice on errors of the library: what the user can do, in terms of command-line options."""

from __future__ import annotations

import logging

from ..errors import (
    BrokenPackageError,
    CasedRefusedError,
    CasedUnknownError,
    DiskSpaceError,
    FloatOverflowError,
    LongSentenceError,
    MemoryShortageError,
    MissingPackageError,
    ModelError,
    NonFiniteError,
    OutputInUseError,
    OutputNameError,
    PiecesRefusedError,
    RefusedWordError,
    ResumeError,
    ServerChangedError,
    ServerError,
    ServerGoneError,
    ServerSettingsError,
    ServerSilentError,
    ServerUnreachableError,
    ThreadLimitError,
    TokembError,
    UsageError,
)
from .start_command import start_command

__all__ = ["add_advice", "exit_code", "with_advice"]

_EXIT_CODES = ((UsageError, 2), (ServerError, 3), (ModelError, 4))


def exit_code(error: BaseException) -> int:
    """Return the exit code of the command for an error."""
    if isinstance(error, (BrokenPackageError, MissingPackageError)):
        return 4 if error.extra == "local" else 1
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def with_advice(error: TokembError) -> str:
    """Return the message of an error and what the user can do about it, as one sentence."""
    advice = _advice(error)
    return f"{error}; {advice}" if advice else str(error)


def add_advice(record: logging.LogRecord) -> bool:
    """Append advice to a log message; a filter for logging handlers."""
    if getattr(record, "assumed", None) == "uncased":
        record.msg += "; give --cased if it is cased"
    return True


def _advice(error: TokembError) -> str:
    match error:
        case LongSentenceError(limit_of="max_seq_len"):
            return f"split the line, or give a larger --max-seq-len (up to {error.model_limit})"
        case LongSentenceError(limit_of="server"):
            return "split the line, or start the server with a larger -max_seq_len"
        case LongSentenceError():
            return "split the line, or give --long-sentences window"
        case RefusedWordError():
            return "change it, or run without --strict"
        case FloatOverflowError():
            return f"give --dtype {error.wider} and --restart"
        case NonFiniteError(dtype="float16"):
            return (
                "it is too large for float16: compute in float32 (--precision fp32, or a server "
                "without -fp16), or give --allow-nonfinite to write it all the same"
            )
        case NonFiniteError():
            return (
                "the weights of the model are damaged, or the server is; give --allow-nonfinite to "
                "write it all the same"
            )
        case DiskSpaceError():
            smaller = "give --dtype float16, " if error.can_be_halved else ""
            return f"free some space, {smaller}or give --no-disk-check to try anyway"
        case OutputNameError(problem="compressed"):
            return "choose another name, or give --output - and pipe it into a compressor"
        case OutputNameError(problem="unknown suffix"):
            return (
                "choose a name that ends in .pkl, .npyd, .h5 or .parquet, or give --format pkl to "
                "write a pickle under this name"
            )
        case OutputNameError(problem="directory"):
            return "give the path of a file, or --format npyd"
        case OutputNameError(problem="terminal"):
            return "give a file as --output, or pipe it into a program"
        case OutputNameError(problem="empty"):
            return "give a path as --output, or - for standard output"
        case OutputNameError(problem="not seekable"):
            return "give --format pkl, or a path as --output"
        case OutputInUseError():
            return "wait for it, or choose another name"
        case ResumeError(kind="refused sentences"):
            return "give --restart to start over, or run without the option that refuses them"
        case ResumeError(kind="earlier version" | "damaged"):
            return "give --restart to start over"
        case ResumeError():
            return "run that command again to resume, or give --restart to start over"
        case MemoryShortageError():
            return "give fewer --threads, a smaller model, or --precision int8"
        case ThreadLimitError():
            return "give fewer --threads"
        case CasedRefusedError():
            return "give neither --cased nor --uncased"
        case CasedUnknownError():
            return "give --cased or --uncased"
        case ServerUnreachableError(problem="no connection"):
            return f"start one with: {start_command(error.address)}"
        case ServerUnreachableError(problem="no answer"):
            return (
                "give the ports it was started with as --server HOST:PORT:PORT_OUT, wait until it "
                "logs `all set, ready to serve request!`, restart it if its worker has died, or "
                f"start one with: {start_command(error.address)}"
            )
        case ServerSettingsError():
            return f"start it with: {start_command(error.address, error.config)}"
        case ServerSilentError():
            return "or give a longer --timeout"
        case ServerGoneError():
            return "then run the same command again"
        case ServerChangedError():
            return "run the command again"
        case PiecesRefusedError():
            return "give --long-sentences error, and split the lines that are too long"
    return ""
