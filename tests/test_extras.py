"""Optional packages that are missing or cannot be imported."""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from bert_tokemb.errors import BrokenPackageError, MissingPackageError
from bert_tokemb.extras import EXTRAS, importing


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_list_the_packages_of_pyproject(extra: str) -> None:
    installed = {
        re.split(r"[><=~ ;]", requirement)[0]
        for requirement in requires("bert-tokemb")
        if re.search(rf"""extra == ["']{extra}["']""", requirement)
    }
    assert installed == {re.sub(r"[._]", "-", name) for name in EXTRAS[extra]}


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        (["no_such_module"], "package no-such-module"),
        (["json", "nowhere", "no_such_module"], "packages nowhere, no-such-module"),
        (["nowhere.at_all"], "package nowhere.at-all"),
    ],
)
def test_missing_packages_are_named_with_their_extra(modules: list[str], missing: str) -> None:
    with pytest.raises(MissingPackageError) as caught, importing("flying", "zstd", modules):
        raise AssertionError
    assert (
        str(caught.value) == f"pip install 'bert-tokemb[zstd]': flying needs the missing {missing}"
    )


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("raise ImportError('no\\nlibrary')", "no library"),
        ("raise ImportError", "ImportError"),
    ],
)
def test_broken_package_is_reported_in_one_sentence(
    content: str, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package built for another Python cannot be imported; installing it again may not help."""
    (tmp_path / "broken_package.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(BrokenPackageError) as caught,
        importing("flying", "hdf5", ["broken_package"]),
    ):
        import broken_package  # noqa: F401
    assert str(caught.value) == (
        f"flying needs an installed package that cannot be imported ({detail}): repair or "
        "reinstall it"
    )
    assert "broken_package" not in sys.modules


def test_failing_import_from_own_package_is_a_bug() -> None:
    with pytest.raises(ImportError, match="no_such_name"), importing("flying", "hdf5", []):
        from bert_tokemb.types import no_such_name  # noqa: F401
