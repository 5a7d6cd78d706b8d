"""``bert-tokemb pieces``: how words are split into pieces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

from ..humanize import printable
from ..signals import hold_signals
from .console import log_to_stderr, show
from .options import (
    PATH,
    Command,
    cased_option,
    default_server_option,
    given_names,
    model_option,
    server_option,
)

__all__ = ["pieces"]


@click.command(cls=Command, short_help="Show how words are split into pieces.")
@click.argument("input_name", metavar="INPUT", type=PATH)
@model_option(help="Use the tokenizer of a model in a directory or on the Hugging Face hub.")
@cased_option(help="With --model: keep capitals and accents, or remove them.")
@server_option(help="Ask a running bert-serving-server. The default ports are 5555 and 5556.")
@default_server_option()
def pieces(**options: Any) -> Callable[[], None]:
    r"""Show how the words of INPUT are split into pieces, one line per sentence.

    INPUT is a text as for embed; - is standard input. Words are separated by bars; a bar in the
    text is shown as \|. An unknown word (red on a terminal) is followed by the word itself, as in
    [UNK]=word. A word without pieces (yellow) is shown as =word.
    """
    return partial(_pieces, options, given_names(options))


def _pieces(options: Mapping[str, Any], given: Collection[str]) -> None:
    with hold_signals():
        from ..text.reader import TextInput
        from ..types import Sentence
        from .encoder_choice import choose_encoder

    log_to_stderr()
    with TextInput(options["input_name"]) as text, choose_encoder(options, given) as encoder:

        def lines() -> Iterator[str]:
            for number, line in enumerate(text, 1):
                words = line.split()
                own = encoder.pieces(Sentence(number, words)) if words else ()
                yield _line(words, own, encoder.unknown_piece)

        show(lines())


def _line(words: Sequence[str], pieces: Sequence[Sequence[str]], unknown: str | None) -> str:
    return " | ".join(_word(word, own, unknown) for word, own in zip(words, pieces, strict=False))


def _word(word: str, pieces: Sequence[str], unknown: str | None) -> str:
    shown = " ".join(r"\|" if piece == "|" else piece for piece in pieces)
    if not pieces:
        return click.style(f"={printable(word)}", fg="yellow")
    if unknown in pieces:
        return click.style(f"{shown}={printable(word)}", fg="red")
    return shown
