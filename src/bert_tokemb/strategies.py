"""Strategies merge the piece vectors of a word into one word vector.

The built-in strategies merge all words of a batch at once: they gather the first pieces of all
words, then add the second pieces of the words that have one, and so on. The number of steps is
the number of pieces of the longest word, whatever the number of words.

A plug-in is a plain function of one word, ``(k, c) -> (c,)``, which :class:`PerWord` turns into a
strategy. Built-in strategies and plug-ins are found by the same means: by name, through the
entry-point group ``bert_tokemb.strategies``, or as ``package.module:function``.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StrategyError, UsageError
from .types import FloatArray, IntArray, Strategy

__all__ = [
    "AVG",
    "FIRST",
    "GROUP",
    "LAST",
    "MAX",
    "PerWord",
    "load_strategy",
    "source_digest",
    "strategy_names",
]

GROUP = "bert_tokemb.strategies"
"""The entry-point group of strategies."""

WordFunction = Callable[[FloatArray], Any]


class _Pick:
    """The vector of one piece of each word."""

    def __init__(self, rank_of: Callable[[IntArray], IntArray]) -> None:
        self._rank_of = rank_of

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        return _gather(vectors, starts + self._rank_of(counts), counts)


class _Reduce:
    """All pieces of each word, combined from left to right.

    Args:
        ufunc: Combines two vectors.
        finish: Changes the combined ``(m, c)`` vectors in place, given the ``(m,)`` numbers of
            pieces.
    """

    def __init__(self, ufunc: np.ufunc, finish: Callable[[FloatArray, IntArray], None]) -> None:
        self._ufunc = ufunc
        self._finish = finish

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        merged = _gather(vectors, starts, counts)
        # Sums in float16 would overflow and lose digits.
        total = merged.astype(np.float32, copy=False)
        several = np.flatnonzero(counts > 1)
        if several.size:
            part = total[several]
            rank, longer = 1, np.arange(several.size)
            while longer.size:
                part[longer] = self._ufunc(part[longer], vectors[starts[several[longer]] + rank])
                rank += 1
                longer = longer[counts[several[longer]] > rank]
            self._finish(part, counts[several])
            total[several] = part
        return total.astype(vectors.dtype, copy=False)


def _gather(vectors: FloatArray, rows: IntArray, counts: IntArray) -> FloatArray:
    """Return one row for each word, zeros for words without pieces."""
    if counts.all():
        return vectors[rows]
    merged = np.zeros((len(rows), vectors.shape[1]), vectors.dtype)
    present = np.flatnonzero(counts)
    merged[present] = vectors[rows[present]]
    return merged


def _divide(total: FloatArray, counts: IntArray) -> None:
    np.divide(total, counts[:, np.newaxis].astype(total.dtype), out=total)


def _keep(total: FloatArray, counts: IntArray) -> None:
    pass


FIRST: Strategy = _Pick(lambda counts: np.zeros_like(counts))
"""The vector of the word's first piece."""
LAST: Strategy = _Pick(lambda counts: counts - 1)
"""The vector of the word's last piece."""
AVG: Strategy = _Reduce(np.add, _divide)
"""The mean of the vectors of the word's pieces."""
MAX: Strategy = _Reduce(np.maximum, _keep)
"""The maximum over the word's pieces in each dimension."""


class PerWord:
    """A strategy that calls a plain function for each word.

    Args:
        function: Takes a writable ``(k, c)`` array of ``k >= 1`` pieces and returns ``(c,)``
            numbers. It is not called for words without pieces.
        name: The name of the strategy in error messages.
    """

    def __init__(self, function: WordFunction, name: str) -> None:
        self._function = function
        self._name = name

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """Call the function for each word; see :class:`bert_tokemb.types.Strategy`.

        Raises:
            StrategyError: if the function returns something other than ``(c,)`` numbers, or
                numbers that are too large for the data type of ``vectors``.
        """
        width = vectors.shape[1]
        merged = np.zeros((len(starts), width), vectors.dtype)
        for j, (start, count) in enumerate(zip(starts, counts, strict=True)):
            if count:
                # A copy, since the function may write to its argument.
                result = self._function(vectors[start : start + count].copy())
                merged[j] = self._checked(result, count, width, merged.dtype)
        return merged

    def _checked(self, result: Any, count: int, width: int, dtype: np.dtype[Any]) -> FloatArray:
        try:
            values = np.asarray(result)
        except ValueError:  # a ragged list
            values = np.empty(0, object)
        if values.shape != (width,) or values.dtype.kind not in "fiu":
            raise StrategyError(
                f"strategy {self._name} must return {width} numbers for a {count} x {width} array, "
                f"but returned {type(result).__name__} of shape {values.shape}"
            )
        if values.dtype == dtype:
            return values
        try:
            with np.errstate(over="raise"):
                return values.astype(dtype)
        except FloatingPointError as error:
            raise StrategyError(
                f"strategy {self._name} returned a number too large for {dtype}"
            ) from error


def load_strategy(strategy: str | Strategy | WordFunction) -> Strategy:
    """Return a strategy, given its installed name, ``package.module:function`` or an object.

    A plain function of one word is wrapped in :class:`PerWord`.

    Raises:
        UsageError: if there is no such strategy, or if it cannot be called.
    """
    found: Any = strategy
    if isinstance(strategy, str):
        found = _by_path(strategy) if ":" in strategy else _import(_path_of(strategy))
    if isinstance(found, type) or not (hasattr(found, "merge") or callable(found)):
        what = "a class" if isinstance(found, type) else type(found).__name__
        raise UsageError(f"strategy {strategy} must be a function, not {what}")
    if hasattr(found, "merge"):
        merging: Strategy = found
        return merging
    name = strategy if isinstance(strategy, str) else getattr(strategy, "__name__", repr(strategy))
    return PerWord(found, name)


def source_digest(strategy: str) -> str:
    """Return a digest of the file that defines a strategy, or ``""`` if there is no such file.

    Args:
        strategy: An installed name, or ``package.module:function``.

    Raises:
        UsageError: if there is no such strategy.
    """
    path = strategy if ":" in strategy else _path_of(strategy)
    module = importlib.import_module(path.partition(":")[0])
    with suppress(OSError, TypeError):
        return hashlib.blake2b(
            Path(getattr(module, "__file__", None) or "").read_bytes(), digest_size=16
        ).hexdigest()
    return ""


def strategy_names() -> list[str]:
    """Return the names of the installed strategies."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def _path_of(name: str) -> str:
    """Return ``package.module:function`` of an installed strategy."""
    # The same distribution may be found twice: installed, and in the source tree.
    found = entry_points(group=GROUP, name=name)
    points: set[str] = {f"{point.module}:{point.attr}" for point in found}
    if not points:
        raise UsageError(
            f"there is no strategy {name}; choose one of {', '.join(strategy_names())}, or give "
            "package.module:function for your own"
        )
    if len(points) > 1:
        raise UsageError(
            f"several installed packages provide a strategy {name}; choose one of "
            f"{', '.join(sorted(points))}"
        )
    return points.pop()


def _by_path(path: str) -> Any:
    # Small plug-ins live in the working directory. Last, so that it shadows nothing.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return _import(path)


def _import(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith(".") or not attribute:
        raise UsageError(f"there is no strategy {path}; write package.module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # an import inside the plug-in failed: its author needs the traceback
        raise UsageError(f"there is no strategy {path}: no module {error.name}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"there is no strategy {path}: {module_name} has no {attribute}")
        found = getattr(found, part)
    return found
