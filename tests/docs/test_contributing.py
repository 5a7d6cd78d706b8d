"""CONTRIBUTING.md describes the tree and the layers as they are, and README its tests."""

from __future__ import annotations

import importlib
import re

import pytest

from support.command import ROOT
from support.pages import blocks, prose, read

tomllib = pytest.importorskip("tomllib")  # Python 3.11

PAGE = "CONTRIBUTING.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGE = ROOT / "src" / "bert_tokemb"

TEST_COMMAND = "pip install uv && uv run --group dev pytest"


def test_layout_lists_every_package_and_module() -> None:
    (layout,) = (block.text for block in blocks(PAGE, "text") if "src/bert_tokemb" in block.text)
    listed = set(re.findall(r"^  (\w+(?:/|\.py))", layout, re.MULTILINE))
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert listed == packages | {path.name for path in PACKAGE.glob("*.py")}
    for folder in re.findall(r"^(\w+)/", layout, re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_layers_are_those_of_import_linter() -> None:
    section = read(PAGE).partition("### Layers")[2].partition("\n### ")[0]
    listed = [
        set(re.findall(r"`(\w+)`", line)) for line in re.findall(r"^\d\. .*", section, re.MULTILINE)
    ]
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    assert listed == [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_path_of_a_sentence_names_what_exists() -> None:
    section = read(PAGE).partition("### The path of a sentence")[2].partition("\n## ")[0]
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    named = [name for name in re.findall(r"`([\w.]+)`", section) if name.split(".")[0] in modules]
    assert len(named) > 15
    for name in named:
        assert resolve(name) is not None, name


def resolve(name: str) -> object:
    """Import ``package.module.attribute``, given without ``bert_tokemb``."""
    found: object = importlib.import_module("bert_tokemb")
    path = "bert_tokemb"
    for part in name.split("."):
        path += f".{part}"
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


def test_files_named_by_contributing_exist() -> None:
    names = re.findall(r"`((?:[\w.]+/)+[\w.]*)`", prose(PAGE))
    names += re.findall(r"`(\w+\.py)`", prose(PAGE))
    assert len(names) > 15
    for name in names:
        if "NAME" not in name:
            places = [ROOT / name, PACKAGE / name, *PACKAGE.glob(f"*/{name}")]
            places += [PACKAGE / "models" / "architectures" / name]
            assert any(place.exists() for place in places), name


def test_every_benchmark_is_described() -> None:
    described = re.findall(r"^## (\w+\.py): ", read("benchmarks/README.md"), re.MULTILINE)
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")} - {"common.py"}
    assert sorted(described) == sorted(scripts)


@pytest.mark.parametrize("page", ["README.md", PAGE])
def test_test_command_is_the_one_that_ci_runs(page: str) -> None:
    assert f"{TEST_COMMAND}\n" in [block.text for block in blocks(page, "sh")]
    assert f"grep -x '{TEST_COMMAND}' README.md" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_first_command_installs_no_development_tools() -> None:
    assert PROJECT["tool"]["uv"]["default-groups"] == []
    assert "dev" in PROJECT["dependency-groups"]
