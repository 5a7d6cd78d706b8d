"""Downloads from the hub, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from huggingface_hub import errors, snapshot_download
from huggingface_hub.utils import filter_repo_objects

from bert_tokemb.errors import ModelError
from bert_tokemb.models import loading
from bert_tokemb.models.hub import download
from support.models import tokenizer_json
from support.tiny import VOCABULARY, write_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNREACHABLE = "http://127.0.0.1:1"

LOAD = """
import sys
from bert_tokemb.models.loading import load_model

model = load_model(sys.argv[1])
print(model.name, "|", model.origin, "|", model.config.num_hidden_layers)
"""


def message_of(name: str, fetch: Any) -> str:
    """Return the message of a download that must fail."""
    with pytest.raises(ModelError) as caught:
        download(name, fetch)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The home of a cache as the hub's library lays it out: links to files named by content."""
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
    return home


def test_cached_model_is_loaded_offline(cached: Path) -> None:
    """In a process of its own, since the hub's library reads the environment at import."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", LOAD, "owner/name"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cached,
        env={**kept, "HF_HOME": str(cached), "HF_HUB_OFFLINE": "1"},
    )
    assert done.stdout == "owner/name | the hub | 3\n", done.stderr


@pytest.mark.parametrize(
    ("removed", "added", "problem"),
    [
        ("model.safetensors", None, "has no model.safetensors"),
        ("vocab.txt", "spm.model", "has spm.model, but no tokenizer.json"),
    ],
)
def test_model_on_the_hub_is_to_be_converted_as_a_whole(
    removed: str, added: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that transformers needs are not among those that are downloaded."""
    directory = write_tiny(tmp_path / "model")
    (directory / removed).unlink()
    if added:
        (directory / added).touch()
    monkeypatch.setattr(loading, "download", lambda name: directory)
    with pytest.raises(ModelError) as caught:
        loading.load_model("owner/name")
    assert str(caught.value) == (
        f"{directory} {problem}: convert the model by python -c 'from transformers import "
        'AutoModel as M, AutoTokenizer as T; n, d = "owner/name", "name"; '
        "M.from_pretrained(n).save_pretrained(d); T.from_pretrained(n).save_pretrained(d)', with "
        "torch, transformers, sentencepiece and protobuf installed, and use the directory name"
    )


def test_cached_model_is_found_without_a_network(cached: Path) -> None:
    fetch = partial(snapshot_download, cache_dir=cached / "hub", endpoint=UNREACHABLE)
    directory = download("owner/name", fetch)
    assert directory == cached / "hub" / "models--owner--name" / "snapshots" / COMMIT


@pytest.mark.parametrize(
    ("options", "cause"),
    [({"local_files_only": True}, "local_files_only"), ({"endpoint": UNREACHABLE}, "refused")],
)
def test_model_missing_in_the_cache_is_reported(options: Any, cause: str, tmp_path: Path) -> None:
    message = message_of("owner/name", partial(snapshot_download, cache_dir=tmp_path, **options))
    assert message.startswith(
        "there is no directory owner/name, no model of that name is in the hub's cache, and the "
        "hub cannot be reached ("
    )
    assert cause in message


@pytest.mark.parametrize("shards", [1, 12])
def test_only_files_that_are_read_are_downloaded(shards: int, tmp_path: Path) -> None:
    written = write_tiny(tmp_path / "all", shards=shards, settings={"do_lower_case": False})
    (written / "tokenizer.json").write_text(json.dumps(tokenizer_json(VOCABULARY)))
    needed = {path.name for path in written.iterdir()}
    others = ["pytorch_model.bin", "tf_model.h5", "README.md", "rust_model.ot", "onnx/model.onnx"]

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        assert name == "owner/name"
        fetched = filter_repo_objects([*needed, *others], allow_patterns=allow_patterns)
        assert set(fetched) == needed
        return str(written)

    assert download("owner/name", fetch) == written


@pytest.mark.parametrize("name", ["owner/na me", "a--b", "-a", "a/b.git", "a\\b", "x" * 97])
def test_invalid_id_is_refused(name: str, tmp_path: Path) -> None:
    message = message_of(name, partial(snapshot_download, cache_dir=tmp_path))
    assert message == f"the model {name} is neither a directory nor an id on the hub"


@pytest.mark.parametrize("endpoint", ["", "nonsense", "http://[", "http://a:b", "ftp://x"])
def test_invalid_endpoint_is_reported(endpoint: str, tmp_path: Path) -> None:
    fetch = partial(snapshot_download, cache_dir=tmp_path, endpoint=endpoint)
    assert "owner/name" in message_of("owner/name", fetch)


def hub_exceptions() -> list[type[Exception]]:
    """Return the exceptions of the hub's library, of its HTTP library, and of the system."""
    http = sys.modules[errors.HTTPError.__module__.partition(".")[0]]
    return [
        *(OSError, PermissionError, ConnectionError, TimeoutError, ValueError, http.InvalidURL),
        *exceptions_in(errors, Exception),
        *exceptions_in(http, errors.HTTPError),
    ]


def exceptions_in(module: Any, base: type[Exception]) -> Iterator[type[Exception]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, base):
            yield value


@pytest.mark.parametrize("kind", hub_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_library_is_translated(kind: type[Exception]) -> None:
    error = kind.__new__(kind)  # constructors differ
    error.args = ("some\nreason",)

    def fetch(name: str, **options: object) -> str:
        raise error

    assert "owner/name" in message_of("owner/name", fetch)


def test_bugs_are_not_translated() -> None:
    def fetch(name: str, **options: object) -> str:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        download("owner/name", fetch)


class Hub(BaseHTTPRequestHandler):
    """Answers every request with the same reply."""

    status: ClassVar[int] = 200
    headers_to_send: ClassVar[dict[str, str]] = {}
    content: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        headers = {**self.headers_to_send, "Content-Length": str(len(self.content))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[type[Hub], str]]:
    """A server and its URL."""

    class OneHub(Hub):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OneHub) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield OneHub, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


NOT_FOUND = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"}
WRONG_TOKEN = {"X-Error-Message": "Invalid credentials in Authorization header"}
REPLIES: dict[str, tuple[int, dict[str, str], bytes, str]] = {
    "no such model": (
        404,
        NOT_FOUND,
        b"{}",
        "there is no directory owner/name, and no model of that name on the hub, unless it is",
    ),
    "gated": (
        403,
        GATED,
        b"{}",
        "the model owner/name is gated: ask for access on the hub, and log in with `hf auth login`",
    ),
    "wrong token": (401, WRONG_TOKEN, b"{}", ""),
    "forbidden": (403, {}, b"{}", ""),
    "too many requests": (429, {}, b"{}", ""),
    "server error": (500, {}, b"<html>error</html>", ""),
    "page of a captive portal": (200, {}, b"<html>log in</html>", ""),
}


@pytest.mark.parametrize("name", REPLIES)
def test_error_replies_of_the_hub_are_reported(
    name: str, hub: tuple[type[Hub], str], tmp_path: Path
) -> None:
    handler, endpoint = hub
    handler.status, handler.headers_to_send, handler.content, expected = REPLIES[name]
    fetch = partial(snapshot_download, cache_dir=tmp_path, endpoint=endpoint)
    message = message_of("owner/name", fetch)
    assert message.startswith(expected)
    assert "owner/name" in message
