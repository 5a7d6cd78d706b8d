"""Commands, options and variables that the documentation names exist."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from contextlib import suppress

import click
import pytest

import campaign.runner
from bert_tokemb.cli.main import cli
from support.command import ROOT, Command, invoke
from support.pages import PAGES, blocks, prose, read

COMMAND = re.compile(r"bert-tokemb ((?:embed|info|pieces|serve)\b[^|;&#'`\n]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
VARIABLE = re.compile(r"\bBERT_TOKEMB_\w+\b")

OPTIONS_OF_OTHER_PROGRAMS = {
    "--durations",  # pytest
    "--extra",  # uv
    "--group",
    "--python",
    "--block",  # parallel
    "--pipepart",
    "--filter",  # split
    "--long",  # zstd
    "--markdown",  # benchmarks
    "--quick",
    "--folder",
    "--formats",
    "--rounds",
    "--width",
    "--words",
    "--no-deps",  # pip
}
OTHER_VARIABLES = {
    "BERT_TOKEMB_COMPLETE",  # click
    "BERT_TOKEMB_CACHE",  # removed; named in the changelog
    "BERT_TOKEMB_PYTHON_3_7",  # tests
    "BERT_TOKEMB_TEST_CACHE",
}


def commands(page: str) -> Iterator[str]:
    """Yield the arguments of each command on a page that has arguments."""
    code = "\n".join(block.text for block in blocks(page))
    inline = "\n".join(re.findall(r"`([^`\n]+)`", prose(page)))
    for text in (code, inline):
        for found in COMMAND.findall(text.replace("\\\n", " ")):
            if len(found.split()) > 1 and "[OPTIONS]" not in found:
                yield found.strip()


def parse(arguments: list[str]) -> None:
    """Let click parse a command line without running it.

    Raises:
        click.UsageError: if it is invalid.
    """
    with cli.make_context("bert-tokemb", arguments[:]) as context:
        name, command, rest = cli.resolve_command(context, arguments)
        with suppress(click.exceptions.Exit):  # after --help
            command.make_context(name, rest, parent=context)


def parameters() -> Iterator[click.Parameter]:
    yield from cli.params
    for command in cli.commands.values():
        yield from command.params


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in PAGES for command in commands(page)]
)
def test_command_of_the_documentation_is_valid(page: str, command: str) -> None:
    parse(shlex.split(command))


@pytest.mark.parametrize("page", PAGES)
def test_options_of_the_documentation_exist(page: str) -> None:
    known = {name for parameter in parameters() for name in parameter.opts}
    known |= {name for parameter in parameters() for name in parameter.secondary_opts}
    known |= set(OPTION.findall(campaign.runner.parser().format_help()))
    assert set(OPTION.findall(read(page))) - known - OPTIONS_OF_OTHER_PROGRAMS <= {"--help"}


@pytest.mark.parametrize("page", PAGES)
def test_variables_of_the_documentation_exist(page: str) -> None:
    known = {parameter.envvar for parameter in parameters()}
    assert set(VARIABLE.findall(read(page))) - known <= OTHER_VARIABLES


def test_every_option_has_a_variable_named_after_it() -> None:
    for name, command in cli.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                long = next(opt for opt in option.opts if opt.startswith("--"))
                expected = f"BERT_TOKEMB_{long[2:].replace('-', '_').upper()}"
                assert option.envvar == expected, (name, long)


def test_reference_equals_help() -> None:
    """`uv run --group dev python docs/update_reference.py` writes it again."""
    page = read("docs/command-line.md")
    places = re.findall(r"<!-- help: bert-tokemb ?(\w*) -->", page)
    assert places == ["", "embed", "pieces", "info", "serve"]
    assert set(places[1:]) == set(cli.commands)
    script = runpy.run_path(str(ROOT / "docs" / "update_reference.py"))
    assert page == script["updated"](page)


def test_short_options_are_those_of_the_changelog() -> None:
    short = {opt for parameter in parameters() for opt in parameter.opts if len(opt) == 2}
    assert short >= {"-m", "-o", "-q", "-s", "-V"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str, run: Command) -> None:
    (line,) = (
        line
        for block in blocks("docs/command-line.md", "sh")
        for line in block.text.splitlines()
        if f"{shell}_source" in line
    )
    variable = re.search(r"(_\w+)=(\w+) bert-tokemb", line)
    done = run(env={variable[1]: variable[2]})
    assert done.returncode == 0
    assert "bert-tokemb" in done.stdout


def test_errors_of_the_command_line_have_the_documented_form() -> None:
    for arguments in (["embed", "input.txt", "-o", "o", "--nope"], ["embed"], ["nope"]):
        done = invoke(*arguments)
        assert done.returncode == 2
        assert re.search(r"^bert-tokemb: error: .", done.stderr, re.MULTILINE), done.stderr
