"""Help, version and shell completion."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bert_tokemb.cli.main import cli
from bert_tokemb.cli.options import variable_of
from support.command import Command

COMMANDS = ("embed", "info", "pieces", "serve")


def test_version_is_printed(invoke: Command) -> None:
    for option in ("--version", "-V"):
        done = invoke(option)
        assert (done.returncode, done.stdout) == (0, "bert-tokemb, version 0.1.0\n")


def test_installed_command_is_the_module() -> None:
    command = Path(sys.executable).with_name("bert-tokemb")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "bert-tokemb, version 0.1.0\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "-h"] for name in COMMANDS)])
def test_help_starts_with_usage(arguments: list[str], invoke: Command) -> None:
    done = invoke(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: bert-tokemb")


def test_command_without_arguments_prints_help(invoke: Command) -> None:
    done = invoke()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == invoke("--help").stdout


def test_help_summarizes_each_command_on_one_line(invoke: Command) -> None:
    summaries = re.findall(r"^  (\w+) +(.*)$", invoke("--help").stdout, re.MULTILINE)
    assert [name for name, _ in summaries] == list(COMMANDS)
    assert all(summary.endswith(".") and "..." not in summary for _, summary in summaries)


def test_help_of_embed_starts_with_valid_examples(invoke: Command) -> None:
    shown = invoke("embed", "--help").stdout
    examples = re.findall(r"^    (.*bert-tokemb embed .*)$", shown, re.MULTILINE)
    assert 2 <= len(examples) <= 3
    assert shown.index(examples[-1]) < shown.index("--format")
    for example in examples:
        arguments = shlex.split(example.rpartition("bert-tokemb embed ")[2])
        assert cli.commands["embed"].make_context("embed", arguments).params["output_name"]


def test_help_of_embed_groups_options(invoke: Command) -> None:
    shown = invoke("embed", "--help").stdout
    groups = dict(re.findall(r"^(\w[\w ]+):\n((?:  .*\n)+)", shown, re.MULTILINE))
    options = {
        title: re.findall(r"^  .*?--([\w-]+)", lines, re.MULTILINE)
        for title, lines in groups.items()
    }
    assert {title: names[0] for title, names in options.items()} == {
        "Output": "output",
        "Words and sentences": "strategy",
        "Local encoder": "model",
        "Server": "server",
        "Run": "restart",
    }
    assert options["Server"] == ["server", "timeout", "retries"]
    assert options["Run"][-1] == "help"


@pytest.mark.parametrize(
    ("command", "short", "long"),
    [
        ("embed", "-o", "--output"),
        ("embed", "-m", "--model"),
        ("embed", "-s", "--strategy"),
        ("embed", "-q", "--quiet"),
        ("pieces", "-m", "--model"),
        ("serve", "-m", "--model"),
    ],
)
def test_common_options_have_short_names(command: str, short: str, long: str) -> None:
    assert any({short, long} <= set(option.opts) for option in cli.commands[command].params)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_variable_of_each_option(command: str, invoke: Command) -> None:
    shown = invoke(command, "--help", env={"COLUMNS": "200"}).stdout
    options = [
        option
        for option in cli.commands[command].params
        if isinstance(option, click.Option) and not option.hidden
    ]
    variables = {option.envvar for option in options}
    longs = (next(name for name in option.opts if name.startswith("--")) for option in options)
    assert variables == {variable_of(name[2:].replace("-", "_")) for name in longs}
    assert set(re.findall(r"BERT_TOKEMB_\w+", shown)) == variables


@pytest.mark.parametrize(
    ("unbuffered", "arguments"),
    [
        ("", ["--help"]),
        ("1", ["--help"]),
        ("", ["--version"]),
        ("", ["serve", "--help"]),
        ("", ["serve", "-version"]),
    ],
)
def test_help_on_full_disk_fails(arguments: list[str], unbuffered: str, run: Command) -> None:
    with Path("/dev/full").open("w") as full:
        streams = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run(*arguments, env={"PYTHONUNBUFFERED": unbuffered}, **streams)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: cannot write standard output: No space left on device\n"
    )


# --- Shell completion -------------------------------------------------------------------------


def complete(shell: str, *words: str) -> str:
    """Run the command as the completion function of a shell does; the last word is incomplete."""
    line = shlex.join(["bert-tokemb", *words[:-1]])
    current = words[-1] if shell == "fish" else str(len(words))
    done = subprocess.run(
        [Path(sys.executable).with_name("bert-tokemb")],
        env={
            **os.environ,
            "COMP_WORDS": f"{line} {words[-1]}",
            "COMP_CWORD": current,
            "_BERT_TOKEMB_COMPLETE": f"{shell}_complete",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("bash", "plain,pieces\n"),
        ("zsh", "plain\npieces\nShow how words are split into pieces.\n"),
        ("fish", "plain,pieces\tShow how words are split into pieces.\n"),
    ],
)
def test_command_names_are_completed(shell: str, expected: str) -> None:
    assert complete(shell, "pi") == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["embed", "tex"], "file,tex\n"),
        (["embed", "text", "--output", "vec"], "file,vec\n"),
        (["embed", "text", "--model", ""], "dir,\n"),
        (["embed", "text", "-s", "a"], "plain,avg\n"),
        (["embed", "text", "--device", "c"], "plain,cpu\nplain,cuda\n"),
        (["embed", "--res"], "plain,--restart\n"),
        (["info", "out"], "file,out\n"),
        (["serve", "-max_seq_len", "x", "--re"], "plain,--ready-file\n"),  # invalid so far
    ],
)
def test_options_and_paths_are_completed(words: list[str], expected: str) -> None:
    assert complete("bash", *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("bert-tokemb")],
        env={**os.environ, "_BERT_TOKEMB_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"_BERT_TOKEMB_COMPLETE={shell}_complete" in done.stdout
    assert done.stderr == ""


def test_completion_script_works_in_bash(tmp_path: Path) -> None:
    """The script is sourced and completes a command line, as the Tab key does."""
    script = (
        'eval "$(_BERT_TOKEMB_COMPLETE=bash_source bert-tokemb)"\n'
        "COMP_WORDS=(bert-tokemb embed --pre) COMP_CWORD=2\n"
        '_bert_tokemb_completion bert-tokemb; echo "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("--precision\n", "")
