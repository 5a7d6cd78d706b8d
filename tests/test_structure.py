"""How the modules depend on one another, and what is imported when."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "bert_tokemb"

LEVELS = [
    {"__main__", "__init__"},
    {"cli"},
    {"commands.embed", "commands.info", "commands.pieces", "commands.serve"},
    {"commands.names", "commands.options", "running"},
    {"serve.launch"},
    {"serve.server"},
    {"serve.crew", "serve.outbox", "serve.statistics"},
    {"serve.schedule", "serve.wire"},
    {"serve.job"},
    {"serve.features"},
    {"serve.protocol", "serve.settings", "serve.flags", "serve.logs"},
    {"serve.pooling"},
    {"continuing", "progress", "pipeline", "inspection"},
    {"report"},
    {"encoders.choice", "strategies", "batching"},
    {"outputs.formats", "results"},
    {"outputs.pickle_file", "outputs.npyd", "outputs.hdf5", "outputs.parquet"},
    {"outputs.pickle", "outputs.whole_directory", "outputs.standard_output", "outputs.journal"},
    {"outputs.begins_anew"},
    {"outputs.seekable_file"},
    {"outputs.output", "outputs.room", "outputs.whole_file"},
    {"encoders.serving", "encoders.local"},
    {"encoders.long_sentences"},
    {"encoders.exchange", "encoders.joining", "encoders.likeness", "model.engine"},
    {"encoders.contact", "model.source", "model.graph", "model.cache"},
    {"encoders.client", "model.hub", "model.parameters", "model.pieces"},
    {"reading", "outputs.beside", "outputs.writer", "unpickling"},
    {"alignment", "compression", "model.checkpoint", "model.tensors", "model.weights"},
    {"model.vocabulary", "model.table"},
    {"model.tokenizer"},
    {"wordpiece", "model.config"},
    {"model.json_file"},
    {"packages"},
    {"types", "interruption", "cpus", "windows", "wording"},
    {"errors", "encoders.address", "encoders.__init__", "model.__init__", "outputs.__init__"},
    {"commands.__init__", "serve.__init__"},
]
"""From the top: a module imports from the levels below its own, and from no other."""


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def imports(name: str, path: Path) -> set[str]:
    """Return the modules of the package that a module imports, wherever in it it does so."""
    here = name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert "bert_tokemb" not in ast.unparse(node), "relative, please"
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("bert_tokemb"), "relative, please"
            if node.level:
                base = here[: len(here) - (node.level - 1)]
                names = [node.module] if node.module else [alias.name for alias in node.names]
                found.update(".".join([*base, name]) for name in names)
    return found


def test_imports_point_down() -> None:
    level_of = {name: level for level, names in enumerate(LEVELS) for name in names}
    assert set(level_of) == set(modules()), (
        "every module has its level, and every level its modules"
    )
    for name, path in modules().items():
        for imported in imports(name, path):
            assert level_of[name] < level_of[imported], f"{name} imports {imported}"


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("bert_serving", {"encoders.client"}),
        ("zmq", {"encoders.client", "serve.wire"}),
        ("onnxruntime", {"model.engine"}),
        ("onnx", {"model.graph"}),
        ("tokenizers", {"model.pieces"}),
        ("huggingface_hub", {"model.hub"}),
        ("h5py", {"outputs.hdf5"}),
        ("pyarrow", {"outputs.parquet"}),
    ],
)
def test_few_know_a_foreign_package(package: str, expected: set[str]) -> None:
    foreign = re.compile(rf"(from|import|import .*,) {package}\b")
    knowing = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom) and foreign.match(ast.unparse(node))
    }
    assert knowing == expected


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


def test_public_names_can_be_had() -> None:
    import bert_tokemb

    for name in bert_tokemb.__all__:
        assert getattr(bert_tokemb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bert_tokemb.nonsense
