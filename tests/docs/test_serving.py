"""The examples of the page about servers."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from bert_tokemb.cli.original_flags import parse
from support.command import invoke
from support.genuine import REQUIREMENTS
from support.ours import OurServer
from support.pages import Block, blocks

PAGE = "docs/serving.md"


def block(language: str, part: str) -> Block:
    (found,) = (block for block in blocks(PAGE, language) if part in block.text)
    return found


def test_client_example_gets_vectors_from_our_server(shared_tiny: Path, tmp_path: Path) -> None:
    command = shlex.split(block("sh", "bert-tokemb serve --model").text)
    assert command[:3] == ["bert-tokemb", "serve", "--model"]
    assert command[4:] == ["--max-seq-len", "256"]
    ready = block("text", "ready 127").text
    program = block("python", "BertClient").text
    with OurServer("--model", shared_tiny, "--max-seq-len", "32") as server:
        port, port_out = server.address.port, server.address.port_out
        assert re.sub(r":\d+", "", ready) == f"ready {server.address.host}\n"
        connected = program.replace("BertClient()", f"BertClient({port=}, {port_out=})")
        assert connected != program
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(f"{connected}\nprint(vectors.shape, tokens[0][:2])", {})  # noqa: S102
        assert output.getvalue().startswith("(1, 32, 32) ['[CLS]', 'hello'")
        (tmp_path / "input.txt").write_text("hello world")
        done = invoke("embed", "input.txt", "-o", "o.pkl", "--server", server.address, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_genuine_server_is_installed_and_started_as_in_the_tests() -> None:
    lines = block("sh", "bert-serving-start").text.splitlines()
    (install,) = (line for line in lines if "pip install" in line)
    assert shlex.split(install)[-len(REQUIREMENTS) :] == list(REQUIREMENTS)
    flags, rest = parse(shlex.split(lines[-1])[1:])
    assert not rest
    assert flags == {
        "model_dir": "uncased_L-12_H-768_A-12",
        "pooling_strategy": "NONE",
        "show_tokens_to_client": True,
        "max_seq_len": None,
        "cpu": True,
    }
