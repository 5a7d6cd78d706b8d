"""Packages that are missing, or cannot be imported."""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.extras import EXTRAS, importing


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_bring_what_is_told(extra: str) -> None:
    brought = {
        re.split(r"[><=~ ;]", one)[0]
        for one in requires("bert-tokemb")
        if re.search(rf"""extra == ["']{extra}["']""", one)
    }
    assert brought == {re.sub(r"[._]", "-", name) for name in EXTRAS[extra]}


def test_several_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {name: find_spec(name) for name in EXTRAS["local"]}
    there["onnx"] = there["google_crc32c"] = None
    monkeypatch.setattr("bert_tokemb.extras.find_spec", there.get)
    message = (
        r"^x needs more packages: y; or pip install google-crc32c onnx \(or the extra local\)$"
    )
    with (
        pytest.raises(ModelError, match=message),
        importing("x", "local", ModelError, otherwise="y"),
    ):
        raise AssertionError


def test_one_within_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "zstd", ("nowhere.at_all",))
    with (
        pytest.raises(ModelError, match=r"one more package: pip install nowhere\.at-all"),
        importing("x", "zstd", ModelError),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("raise ImportError('no\\nlibrary')", "no library"),
        ("raise ImportError", "it cannot be imported"),
    ],
)
def test_one_that_is_broken(
    content: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, but not for this Python, say: to install it again is not told."""
    (tmp_path / "broken_one.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EXTRAS, "hdf5", ("broken_one",))
    message = f"^x cannot use a package that is installed: mend it: {told}$"
    with pytest.raises(ModelError, match=message), importing("x", "hdf5", ModelError):
        import broken_one  # noqa: F401
    assert "broken_one" not in sys.modules


def test_what_is_missing_in_our_own_is_a_bug() -> None:
    with (
        pytest.raises(ImportError, match="nothing_of_the_kind"),
        importing("x", "hdf5", ModelError),
    ):
        from bert_tokemb.types import nothing_of_the_kind  # noqa: F401
