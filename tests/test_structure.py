"""Which modules import a third-party package, and what is imported when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "bert_tokemb"


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("bert_serving", {"encoders.server.connection"}),
        ("zmq", {"encoders.server.connection", "serve.sockets"}),
        ("onnxruntime", {"models.engine"}),
        ("onnx", {"models.graph"}),
        ("tokenizers", {"tokenization.library", "tokenization.wordpiece"}),
        ("huggingface_hub", {"models.hub"}),
        ("h5py", {"formats.hdf5"}),
        ("pyarrow", {"formats.parquet"}),
    ],
)
def test_third_party_packages_are_imported_only_by_their_adapters(
    package: str, expected: set[str]
) -> None:
    imported = re.compile(rf"(from|import|import .*,) {package}\b")
    importing = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom) and imported.match(ast.unparse(node))
    }
    assert importing == expected


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["embed", "--help"], ["serve", "--help"], ["info", "--help"], ["--version"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from bert_tokemb.__main__ import main\n"
        f"sys.argv[1:] = {arguments}\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'zmq', 'tqdm', 'bert_serving', 'onnx', 'onnxruntime', 'tokenizers'}\n"
        "heavy |= {'google_crc32c', 'huggingface_hub', 'ml_dtypes', 'safetensors'}\n"
        "heavy |= {'h5py', 'pyarrow'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_public_names_are_importable() -> None:
    import bert_tokemb

    for name in bert_tokemb.__all__:
        assert getattr(bert_tokemb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bert_tokemb.nonsense
