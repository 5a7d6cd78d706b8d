"""The hub, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from bert_tokemb.errors import ModelError
from bert_tokemb.models.loading import load_model
from support.models import tokenizer_json
from support.tiny import VOCABULARY, write_tiny

LOAD = """
import sys
from bert_tokemb.errors import ModelError
from bert_tokemb.models.loading import load_model

try:
    model = load_model(sys.argv[1])
    print(model.name, "|", model.origin, "|", model.config.layers)
except ModelError as error:
    print("refused:", error)
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def ask_for(name: str, home: Path, **variables: str) -> str:
    """Load a model in a process of its own: the hub's package reads the environment once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", LOAD, name],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=home,
        env={**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_a_snapshot_in_the_cache(tmp_path: Path) -> None:
    """As the hub's package lays one out: links to files named by their content."""
    home = tmp_path / "home"
    repository = home / "hub" / "models--owner--name"
    written = write_tiny(tmp_path / "model", settings={"do_lower_case": True})
    snapshot = repository / "snapshots" / COMMIT
    for directory in (snapshot, repository / "blobs", repository / "refs"):
        directory.mkdir(parents=True)
    for i, path in enumerate(sorted(written.iterdir())):
        path.rename(repository / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    (repository / "refs" / "main").write_text(COMMIT)
    assert ask_for("owner/name", home, HF_HUB_OFFLINE="1") == "owner/name | the hub | 3"
    # Nor is a hub of any use that cannot be reached.
    closed = "http://127.0.0.1:1"
    assert ask_for("owner/name", home, HF_ENDPOINT=closed) == "owner/name | the hub | 3"
    (snapshot / "model.safetensors").unlink()
    told = ask_for("owner/name", home, HF_HUB_OFFLINE="1")
    assert told.startswith("refused: ")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "unset the `HF_HUB_OFFLINE` environment variable"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "refused"),
    ],
)
def test_nothing_in_the_cache(variables: dict[str, str], cause: str, tmp_path: Path) -> None:
    told = ask_for("owner/name", tmp_path, **variables)
    assert told.startswith(
        "refused: there is no directory owner/name, no model of that name is in the hub's cache, "
        "and the hub cannot be reached ("
    )
    assert cause in told


@pytest.mark.parametrize("shards", [1, 12])
def test_what_is_fetched(shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is read, and nothing of what others keep beside it."""
    written = write_tiny(tmp_path / "all", shards=shards, settings={"do_lower_case": False})
    (written / "tokenizer.json").write_text(json.dumps(tokenizer_json(VOCABULARY)))
    needed = {path.name for path in written.iterdir()}
    others = ["pytorch_model.bin", "tf_model.h5", "README.md", "rust_model.ot", "onnx/model.onnx"]

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        assert name == "owner/name"
        fetched = list(filter_repo_objects([*needed, *others], allow_patterns=allow_patterns))
        assert set(fetched) == needed
        return str(written)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    model = load_model("owner/name")
    assert (model.name, model.origin) == ("owner/name", "the hub")
    assert not model.vocabulary.do_lower_case


@pytest.mark.parametrize("name", ["owner/na me", "a--b", "-a", "a/b.git", "a\\b", "x" * 97])
def test_what_cannot_be_an_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert str(caught.value) == f"--model {name} is neither a directory nor an id on the hub"


class Hub(BaseHTTPRequestHandler):
    """Answers whatever is asked with the same."""

    status: ClassVar[int] = 200
    answers: ClassVar[dict[str, str]] = {}
    content: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in {**self.answers, "Content-Length": str(len(self.content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[type[Hub]]:
    class OneHub(Hub):
        address: ClassVar[str]

    with ThreadingHTTPServer(("127.0.0.1", 0), OneHub) as server:
        OneHub.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield OneHub
        server.shutdown()


NOT_FOUND = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"}
ANSWERS: dict[str, tuple[int, dict[str, str], bytes, str]] = {
    "no such model": (
        404,
        NOT_FOUND,
        b"{}",
        "there is no directory owner/name, and no model of that name on the hub, or it is private",
    ),
    "gated": (
        403,
        GATED,
        b"{}",
        "the model owner/name is gated: ask for access on the hub, and log in with `hf auth login`",
    ),
    "a wrong token": (
        401,
        {"X-Error-Message": "Invalid credentials in Authorization header"},
        b"{}",
        "",
    ),
    "forbidden": (403, {}, b"{}", ""),
    "too often": (429, {}, b"{}", ""),
    "out of order": (500, {}, b"<html>oh</html>", ""),
    "another page, as hotels show it": (200, {}, b"<html>log in</html>", ""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_a_hub(name: str, hub: Any, tmp_path: Path) -> None:
    hub.status, hub.answers, hub.content, said = ANSWERS[name]
    told = ask_for("owner/name", tmp_path, HF_ENDPOINT=hub.address)
    assert told.startswith(f"refused: {said}")
    assert "owner/name" in told
