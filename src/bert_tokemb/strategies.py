"""From the vectors of a word's pieces to the vector of the word.

Built-in strategies merge all words of a batch at once: the first pieces of all words are
gathered, then the second pieces of those that have one are added, and so on. That takes as many
steps as the longest word has pieces, whatever the number of words.

A plug-in is a plain function of one word, ``(k, c) -> (c,)``; :class:`PerWord` makes a strategy
of it. Both come in by name through the entry-point group ``bert_tokemb.strategies``, or by
import path.
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
"""The entry-point group."""

WordFunction = Callable[[FloatArray], Any]


class _Pick:
    """The vector of one piece of each word."""

    def __init__(self, rank_of: Callable[[IntArray], IntArray]) -> None:
        self._rank_of = rank_of

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        return _gather(vectors, starts + self._rank_of(counts), counts)


class _Fold:
    """All pieces of each word, brought together two at a time, from left to right."""

    def __init__(self, ufunc: np.ufunc, finish: Callable[[FloatArray, IntArray], None]) -> None:
        self._ufunc = ufunc
        self._finish = finish

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        merged = _gather(vectors, starts, counts)
        # Sums of float16 would overflow and lose digits: they are kept in float32.
        total = merged.astype(np.float32, copy=False)
        several = np.flatnonzero(counts > 1)
        if several.size:
            part = total[several]
            rank, left = 1, np.arange(several.size)
            while left.size:
                part[left] = self._ufunc(part[left], vectors[starts[several[left]] + rank])
                rank += 1
                left = left[counts[several[left]] > rank]
            self._finish(part, counts[several])
            total[several] = part
        return total.astype(vectors.dtype, copy=False)


def _gather(vectors: FloatArray, rows: IntArray, counts: IntArray) -> FloatArray:
    """Copy a row for each word, zeros for words without pieces."""
    if counts.all():
        return vectors[rows]
    merged = np.zeros((len(rows), vectors.shape[1]), vectors.dtype)
    present = np.flatnonzero(counts)
    merged[present] = vectors[rows[present]]
    return merged


def _divide(total: FloatArray, counts: IntArray) -> None:
    np.divide(total, counts[:, np.newaxis].astype(total.dtype), out=total)


def _leave(total: FloatArray, counts: IntArray) -> None:
    pass


FIRST: Strategy = _Pick(lambda counts: np.zeros_like(counts))
"""The vector of the word's first piece."""
LAST: Strategy = _Pick(lambda counts: counts - 1)
"""The vector of its last piece."""
AVG: Strategy = _Fold(np.add, _divide)
"""The mean of its pieces' vectors."""
MAX: Strategy = _Fold(np.maximum, _leave)
"""The largest value of its pieces in each dimension."""


class PerWord:
    """A strategy made of a plain function of one word.

    Args:
        function: Takes a writable ``(k, c)`` array, ``k >= 1`` pieces, and returns ``(c,)``
            numbers. It is not called for words without pieces.
        name: What to call it in messages.
    """

    def __init__(self, function: WordFunction, name: str) -> None:
        self._function = function
        self._name = name

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """Call the function for each word; see :class:`bert_tokemb.types.Strategy`.

        Raises:
            StrategyError: the function returns something else than ``(c,)`` numbers, or some
                that are too large for the vectors' type.
        """
        width = vectors.shape[1]
        merged = np.zeros((len(starts), width), vectors.dtype)
        for j, (start, count) in enumerate(zip(starts, counts, strict=True)):
            if count:
                # A copy: what the function does to its argument is its own affair.
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
                f"strategy {self._name} must return {width} numbers for {count} x {width}, and "
                f"returned {type(result).__name__} of shape {values.shape}"
            )
        if values.dtype == dtype:
            return values
        try:
            with np.errstate(over="raise"):
                return values.astype(dtype)
        except FloatingPointError as error:
            raise StrategyError(
                f"strategy {self._name} returned a number that is too large for {dtype}"
            ) from error


def load_strategy(strategy: str | Strategy | WordFunction) -> Strategy:
    """Find a strategy by its installed name, or by ``package.module:function``.

    A plain function of one word is made a strategy, and one that is one already is left so.

    Raises:
        UsageError: there is none, or it is nothing that can be called.
    """
    found: Any = strategy
    if isinstance(strategy, str):
        found = _by_path(strategy) if ":" in strategy else _import(_path_of(strategy))
    if isinstance(found, type) or not (hasattr(found, "merge") or callable(found)):
        what = "a class" if isinstance(found, type) else type(found).__name__
        raise UsageError(f"strategy {strategy} is no function but {what}")
    if hasattr(found, "merge"):
        merging: Strategy = found
        return merging
    name = strategy if isinstance(strategy, str) else getattr(strategy, "__name__", repr(strategy))
    return PerWord(found, name)


def source_digest(strategy: str) -> str:
    """Return by what a strategy is known again: a digest of the file in which it is.

    Args:
        strategy: By its installed name, or by ``package.module:function``.

    Returns:
        Nothing for what is in no file.

    Raises:
        UsageError: there is none of that name.
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
    """Return where an installed strategy is, as ``package.module:function``."""
    # The same distribution may be found twice, say installed and in the source tree.
    found = entry_points(group=GROUP, name=name)
    points: set[str] = {f"{point.module}:{point.attr}" for point in found}
    if not points:
        raise UsageError(
            f"no strategy {name}; there are {', '.join(strategy_names())}, and "
            "package.module:function for one of your own"
        )
    if len(points) > 1:
        raise UsageError(
            f"several installed packages bring a strategy {name}: name one of "
            f"{', '.join(sorted(points))}"
        )
    return points.pop()


def _by_path(path: str) -> Any:
    # A plug-in of five lines lies in the working directory. Last, so that it hides nothing.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return _import(path)


def _import(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or module_name.startswith(".") or not attribute:
        raise UsageError(f"no strategy {path}: write package.module:function")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # an import inside the plug-in fails: its author wants the traceback
        raise UsageError(f"no strategy {path}: there is no module {error.name}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"no strategy {path}: {module_name} has no {attribute}")
        found = getattr(found, part)
    return found
