"""Old Python interpreters, and environments with packages for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

__all__ = ["cache_directory", "environment", "find_python", "skip_or_fail"]


def cache_directory() -> Path:
    """Return the directory, outside the repository, that keeps environments between runs."""
    given = os.environ.get("BERT_TOKEMB_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "bert-tokemb-tests"


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it under ``CI=true``, where a skipped test would go unnoticed."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@cache
def find_python(version: str) -> str | None:
    """Find an interpreter in an environment variable, on PATH, in pyenv or in uv, in this order.

    Args:
        version: Such as ``3.7``, which ``BERT_TOKEMB_PYTHON_3_7=/path/to/python`` can specify.
    """
    candidates = (path for path in _candidates(version) if _version_of(path) == version)
    return next(candidates, None)


def _candidates(version: str) -> Iterator[str]:
    yield os.environ.get(_variable(version), "")
    yield shutil.which(f"python{version}") or ""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-python-downloads", version]
        yield subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _variable(version: str) -> str:
    return f"BERT_TOKEMB_PYTHON_{version.replace('.', '_')}"


def _version_of(python: str) -> str | None:
    # Run the interpreter, because a pyenv shim on PATH fails unless its version is activated.
    if not python:
        return None
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return None
    return done.stdout.strip()


def environment(version: str, requirements: Sequence[str]) -> str:
    """Return the interpreter of an environment with packages, which is created once and kept.

    Skips the test, or fails it under ``CI=true``, if there is no such Python.

    Args:
        version: The version of Python.
        requirements: The packages.
    """
    base = find_python(version)
    if base is None:
        skip_or_fail(f"no Python {version} on PATH, in pyenv or uv; set {_variable(version)}")
    assert base is not None
    key = hashlib.sha256("\n".join([base, *requirements]).encode()).hexdigest()[:12]
    home = cache_directory() / f"python{version}-{key}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        # Created elsewhere and renamed, so that no test uses an incomplete environment, even if
        # another test process creates the same one.
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            created = Path(scratch) / "env"
            _make(base, created, requirements)
            try:
                created.rename(home)
            except OSError:
                assert home.exists()  # the other process was faster
    return str(home / "bin" / "python")


def _make(base: str, home: Path, requirements: Sequence[str]) -> None:
    subprocess.run([base, "-m", "venv", home], check=True)
    python = str(home / "bin" / "python")
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", python, *requirements]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return
    # uv does not support the oldest Pythons.
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *requirements], check=True)
