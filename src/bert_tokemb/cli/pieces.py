"""``bert-tokemb pieces``: how words fall into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from ..humanize import printable
from ..signals import hold_signals
from .options import SERVER, address, engine_options, given_names, log_to_stderr, option, show

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = ["pieces"]

_UNKNOWN, _EMPTY = "red", "yellow"


@click.command()
@click.argument("input_name", metavar="INPUT")
@option(
    "--server",
    callback=address,
    metavar=SERVER,
    show_default="localhost, if anything listens there",
    help="Ask a bert-serving-server.",
)
@option(
    "--model",
    metavar="DIR|HUB_ID",
    show_default="sentence-transformers/all-MiniLM-L6-v2, if no server listens",
    help="Ask the embedded engine, with a BERT in a directory or on the Hugging Face hub.",
)
@engine_options("Engine: ", only=("cased",))
@option("--default-server", callback=address, default="localhost", hidden=True)
def pieces(
    input_name: str,
    server: Address | None,
    model: str | None,
    cased: bool | None,
    default_server: Address,
) -> Callable[[], None]:
    r"""Show how the words of INPUT fall into pieces, one line a sentence; - is stdin.

    Words stand between bars; a bar of the text is shown as \|. An unknown word, red on a terminal,
    is followed by the word itself: [UNK]=word. A word without pieces, yellow, is =word alone.
    """
    given = given_names(["cased", "server", "model"])
    return partial(_pieces, input_name, server, model, cased, default_server, given)


def _pieces(
    input_name: str,
    server: Address | None,
    model: str | None,
    cased: bool | None,
    default_server: Address,
    given: set[str],
) -> None:
    with hold_signals():
        from ..text.reader import TextInput
        from ..types import Sentence
        from .encoder_choice import choose_encoder

    log_to_stderr()
    with (
        TextInput(input_name) as text,
        choose_encoder(
            server,
            model,
            default_server=default_server,
            for_server={},
            for_engine={"cased": cased},
            given=given,
        ) as encoder,
    ):

        def lines() -> Iterator[str]:
            for number, line in enumerate(text, 1):
                words = line.split()
                yield _line(words, encoder.pieces(Sentence(number, words)) if words else ())

        show(lines())


def _line(words: Sequence[str], pieces_of: Sequence[Sequence[str]]) -> str:
    return " | ".join(map(_word, words, pieces_of))


def _word(word: str, own: Sequence[str]) -> str:
    shown = " ".join(r"\|" if piece == "|" else piece for piece in own)
    if not own:
        return click.style(f"={printable(word)}", fg=_EMPTY)
    if "[UNK]" in own:
        return click.style(f"{shown}={printable(word)}", fg=_UNKNOWN)
    return shown
