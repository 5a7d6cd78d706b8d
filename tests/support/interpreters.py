"""Old Python interpreters, and environments for them, wherever this machine has them."""

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
    """Where environments are kept between runs, outside the tree."""
    given = os.environ.get("BERT_TOKEMB_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "bert-tokemb-tests"


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it where nobody would see that it was skipped."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@cache
def find_python(version: str) -> str | None:
    """Find an interpreter: an environment variable, PATH, pyenv, uv, in this order.

    ``BERT_TOKEMB_PYTHON_3_7=/path/to/python`` names one.
    """
    for candidate in _candidates(version):
        if _version_of(candidate) == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    yield os.environ.get("BERT_TOKEMB_PYTHON_" + version.replace(".", "_"), "")
    yield shutil.which(f"python{version}") or ""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))
    if uv := shutil.which("uv"):
        found = subprocess.run(
            [uv, "python", "find", "--no-python-downloads", version],
            capture_output=True,
            text=True,
            check=False,
        )
        yield found.stdout.strip()


def _version_of(python: str) -> str | None:
    # A pyenv shim lies on PATH and fails unless its version is switched on: ask it.
    if not python:
        return None
    try:
        asked = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except OSError:
        return None
    return asked.stdout.strip()


def environment(version: str, requirements: Sequence[str]) -> str:
    """Return the interpreter of an environment with ``requirements``, made once and kept.

    Skips the test, or fails it under ``CI=true``, where no such Python can be found.
    """
    base = find_python(version)
    if base is None:
        name = f"BERT_TOKEMB_PYTHON_{version.replace('.', '_')}"
        skip_or_fail(f"no Python {version} on PATH, in pyenv or uv; name one by {name}")
    assert base is not None
    key = hashlib.sha256("\n".join([base, *requirements]).encode()).hexdigest()[:12]
    home = cache_directory() / f"python{version}-{key}"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        # Elsewhere first: what is there is complete, also for a run beside this one.
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            made = Path(scratch) / "env"
            _make(base, made, requirements)
            try:
                made.rename(home)
            except OSError:
                assert home.exists()  # the other run was quicker
    return str(home / "bin" / "python")


def _make(base: str, home: Path, requirements: Sequence[str]) -> None:
    subprocess.run([base, "-m", "venv", home], check=True)
    python = str(home / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        quick = [uv, "pip", "install", "--quiet", "--python", python]
        if (
            subprocess.run([*quick, *requirements], check=False, capture_output=True).returncode
            == 0
        ):
            return  # uv has given up the oldest Pythons
    subprocess.run([*install, *requirements], check=True)
