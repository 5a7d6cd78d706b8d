"""A stand-in for a bert-serving-server that speaks its protocol and can be made to fail.

For faults that the genuine server cannot be made to show, and for what would take it minutes.
Its vectors can be worked out by hand: piece ``j`` of a sentence (``[CLS]`` is 0) has
``[j, number of pieces, length of the piece, code of its last character, 0, 0, ...]``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import zmq

from bert_tokemb import Address
from bert_tokemb.tokenization.basic import basic_tokens

__all__ = ["CONFIG", "StandIn", "pieces_of"]

CONFIG: dict[str, Any] = {
    "pooling_strategy": 0,
    "show_tokens_to_client": True,
    "max_seq_len": None,
    "do_lower_case": True,
    "max_batch_size": 256,
    "num_worker": 1,
    "model_dir": "toy",
    "server_version": "1.10.0",
}

Frames = list[bytes]
Fault = Callable[["StandIn", Frames, list[str]], "list[Frames] | None"]
"""Called for each request; gives the messages to send instead of the reply, or None."""


@lru_cache(maxsize=1 << 16)
def _pieces_of_word(word: str) -> tuple[str, ...]:
    pieces: list[str] = []
    for token in basic_tokens(word, do_lower_case=True):
        pieces += [
            token[i : i + 4] if not i else "##" + token[i : i + 4] for i in range(0, len(token), 4)
        ]
    return tuple(pieces)


def known_pieces(pieces: Sequence[str]) -> list[str]:
    """Return pieces as they were asked for, but ``[UNK]`` for those of other lengths."""
    return [piece if len(piece.removeprefix("##")) <= 4 else "[UNK]" for piece in pieces]


def pieces_of(text: str) -> list[str]:
    """Cut a text's basic tokens into pieces of four characters."""
    return [piece for word in text.split() for piece in _pieces_of_word(word)]


def vectors_of(sentences: Sequence[Sequence[str]], width: int) -> np.ndarray[Any, Any]:
    """Return ``(b, t, width)``, zero-padded, as the module says."""
    longest = max(map(len, sentences))
    vectors = np.zeros((len(sentences), longest, width), np.float32)
    for i, pieces in enumerate(sentences):
        for j, piece in enumerate(pieces):
            vectors[i, j, :4] = j, len(pieces), len(piece), ord(piece[-1])
    return vectors


class StandIn:
    """Serves from a thread, on the loopback address; a context manager.

    Args:
        config: What differs from :data:`CONFIG`.
        fault: See :data:`Fault`.
        limit: The model's own limit, special pieces included.
        vectors: Gives the vectors of some sentences' pieces.
        dtype: Of the vectors sent.
        pieces: Cuts a text.
        known: What becomes of pieces that are sent as such.
    """

    def __init__(
        self,
        *,
        config: dict[str, Any] | None = None,
        fault: Fault | None = None,
        limit: int = 512,
        width: int = 8,
        dtype: str = "float32",
        vectors: Callable[[Sequence[Sequence[str]], int], np.ndarray[Any, Any]] = vectors_of,
        pieces: Callable[[str], list[str]] = pieces_of,
        known: Callable[[Sequence[str]], list[str]] = known_pieces,
        address: Address | None = None,
    ) -> None:
        self.config = {**CONFIG, **(config or {})}
        self.fault = fault
        self.requests: list[list[str]] = []
        """The texts of every request that came, in order."""
        self._limit = self.config["max_seq_len"] or limit
        self._width = width
        self._dtype = dtype
        self._vectors = vectors
        self._pieces = pieces
        self._known = known
        self.given = address
        self._stop = threading.Event()

    def encode(
        self, texts: list[str] | list[list[str]]
    ) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        """Return the info and the vectors of a faultless reply."""
        pieces = [
            self._pieces(text) if isinstance(text, str) else self._known(text) for text in texts
        ]
        sentences = [["[CLS]", *own[: self._limit - 2], "[SEP]"] for own in pieces]
        vectors = self._vectors(sentences, self._width).astype(self._dtype, copy=False)
        info = {"dtype": self._dtype, "shape": vectors.shape, "tokens": sentences}
        return info, vectors

    def reply(self, client: bytes, number: bytes, texts: list[str]) -> list[Any]:
        """Return the frames of a faultless reply."""
        info, vectors = self.encode(texts)
        return [client, json.dumps(info).encode(), vectors, number]

    def start(self) -> None:
        self._context = zmq.Context()
        self._requests = self._context.socket(zmq.PULL)
        self._replies = self._context.socket(zmq.XPUB)  # PUB that lets subscriptions be seen
        self._subscribed: set[bytes] = set()
        for server in (self._requests, self._replies):
            server.linger = 500  # what was answered before a death is delivered
        if self.given:
            self._requests.bind(f"tcp://127.0.0.1:{self.given.port}")
            self._replies.bind(f"tcp://127.0.0.1:{self.given.port_out}")
            self.address = self.given
        else:
            port = self._requests.bind_to_random_port("tcp://127.0.0.1")
            port_out = self._replies.bind_to_random_port("tcp://127.0.0.1")
            self.address = Address("127.0.0.1", port, port_out)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close both sockets, as the death of the process does."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._requests.poll(20):
                self._answer(self._requests.recv_multipart())
        self._requests.close()
        self._replies.close()
        self._context.term()

    def _answer(self, frames: Frames) -> None:
        client, message, number, _ = frames
        if message == b"SHOW_CONFIG":
            self._wait_for_subscription(client)
            answers = [[client, json.dumps(self.config).encode(), number]]
        else:
            texts = json.loads(message)
            self.requests.append(texts)
            instead = self.fault(self, frames, texts) if self.fault else None
            answers = [self.reply(client, number, texts)] if instead is None else instead
        for answer in answers:
            if not self._stop.is_set():
                self._replies.send_multipart(answer)

    def _wait_for_subscription(self, client: bytes) -> None:
        """Wait until what is published reaches the client, unless it does not come at all."""
        while client not in self._subscribed and self._replies.poll(1000):
            message = self._replies.recv()
            if message[0] == 1:
                self._subscribed.add(message[1:])

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
