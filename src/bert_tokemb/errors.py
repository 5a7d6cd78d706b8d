"""The errors a user can meet: each is one sentence that says what to do.

The command turns them into a line on standard error and an exit code, in one place
(:mod:`bert_tokemb.cli`). Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "InputError",
    "ModelError",
    "OddWordError",
    "OutputError",
    "SentenceTooLongError",
    "ServerError",
    "StrategyError",
    "TokembError",
    "UsageError",
]


class TokembError(Exception):
    """Anything that went wrong and is no bug of ours."""

    exit_code = 1


class UsageError(TokembError):
    """The command line, or the arguments of a call, cannot be meant."""

    exit_code = 2


class InputError(TokembError):
    """The text cannot be read, or is not UTF-8."""


class SentenceTooLongError(InputError):
    """A sentence has more word pieces than the model or the server takes."""


class OddWordError(InputError):
    """``--strict``: a word is unknown to the model, or has no word pieces."""


class OutputError(TokembError):
    """The result cannot be written."""


class StrategyError(TokembError):
    """A strategy plug-in did not give what it must give."""


class ServerError(TokembError):
    """The server cannot be reached, is started wrongly, fell silent, or answers nonsense."""

    exit_code = 3


class ModelError(TokembError):
    """The embedded engine's model cannot be found, read, or used, or its packages are missing."""

    exit_code = 4
