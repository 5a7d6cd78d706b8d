"""A stand-in for a bert-serving-server that can simulate faults."""

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

__all__ = ["CONFIG", "Fault", "Frames", "Model", "StandIn", "Text", "ToyModel", "pieces_of"]

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

Array = np.ndarray[Any, Any]
Text = str | list[str]
"""A sentence or its pieces."""
Model = Callable[[Sequence[Text]], tuple[list[list[str]], Array]]
"""Returns the pieces of ``b`` texts, including special tokens, and ``(b, t, c)`` vectors."""
Frames = list[Any]
Fault = Callable[["StandIn", Frames, list[Text]], "list[Frames] | None"]
"""Called for each request; returns the messages to send instead of the reply, or None."""
ConfigFault = Callable[["StandIn", Frames], "list[Frames]"]
"""Called for each request for the settings; returns the messages to send."""


@lru_cache(maxsize=1 << 16)
def _pieces_of_word(word: str) -> tuple[str, ...]:
    pieces: list[str] = []
    for token in basic_tokens(word, do_lower_case=True):
        pieces += [
            token[i : i + 4] if not i else "##" + token[i : i + 4] for i in range(0, len(token), 4)
        ]
    return tuple(pieces)


def pieces_of(text: str) -> list[str]:
    """Split the basic tokens of a text into pieces of four characters."""
    return [piece for word in text.split() for piece in _pieces_of_word(word)]


def known_pieces(pieces: Sequence[str]) -> list[str]:
    """Replace pieces of more than four characters by ``[UNK]``."""
    return [piece if len(piece.removeprefix("##")) <= 4 else "[UNK]" for piece in pieces]


def vectors_of(sentences: Sequence[Sequence[str]], width: int) -> Array:
    """Return zero-padded ``(b, t, width)`` vectors with predictable values.

    Piece ``j`` of a sentence, where ``[CLS]`` is 0, has the vector ``[j, number of pieces, length
    of the piece, code of its last character, 0, 0, ...]``.
    """
    vectors = np.zeros((len(sentences), max(map(len, sentences)), width), np.float32)
    for i, pieces in enumerate(sentences):
        for j, piece in enumerate(pieces):
            vectors[i, j, :4] = j, len(pieces), len(piece), ord(piece[-1])
    return vectors


class ToyModel:
    """A model that returns predictable vectors.

    Args:
        limit: The maximum number of pieces of a sentence, including special tokens.
        width: The width of its vectors.
        dtype: Their data type.
        vectors: Returns the vectors, given the pieces of each sentence and the width.
        pieces: Splits a text into pieces.
        known: Replaces pieces that are not in the vocabulary.
    """

    def __init__(
        self,
        *,
        limit: int = 512,
        width: int = 8,
        dtype: str = "float32",
        vectors: Callable[[Sequence[Sequence[str]], int], Array] = vectors_of,
        pieces: Callable[[str], list[str]] = pieces_of,
        known: Callable[[Sequence[str]], list[str]] = known_pieces,
    ) -> None:
        self._limit = limit
        self._width = width
        self._dtype = dtype
        self._vectors = vectors
        self._pieces = pieces
        self._known = known

    def __call__(self, texts: Sequence[Text]) -> tuple[list[list[str]], Array]:
        pieces = [
            self._pieces(text) if isinstance(text, str) else self._known(text) for text in texts
        ]
        sentences = [["[CLS]", *own[: self._limit - 2], "[SEP]"] for own in pieces]
        vectors = self._vectors(sentences, self._width)
        return sentences, vectors.astype(self._dtype, copy=False)


class StandIn:
    """A server in a thread, on the loopback address; a context manager.

    Args:
        config: Settings that differ from :data:`CONFIG`.
        fault: See :data:`Fault`.
        config_fault: See :data:`ConfigFault`.
        address: The address to bind; by default, free ports.
        model: Computes the replies; by default a :class:`ToyModel`.
        toy: Arguments of the :class:`ToyModel`; ``limit`` defaults to ``max_seq_len``.
    """

    def __init__(
        self,
        *,
        config: dict[str, Any] | None = None,
        fault: Fault | None = None,
        config_fault: ConfigFault | None = None,
        address: Address | None = None,
        model: Model | None = None,
        **toy: Any,
    ) -> None:
        self.config = {**CONFIG, **(config or {})}
        self.fault = fault
        self.config_fault = config_fault or StandIn.answer_config
        self.requests: list[list[Text]] = []
        """The texts of every request, in order of arrival."""
        self.after_stop: Callable[[], object] = lambda: None
        """Called after the sockets have been closed."""
        if self.config["max_seq_len"]:
            toy.setdefault("limit", self.config["max_seq_len"])
        self.model = model or ToyModel(**toy)
        self._given = address
        self._error: Exception | None = None
        self._stop = threading.Event()

    def reply(self, client: bytes, number: bytes, texts: Sequence[Text]) -> Frames:
        """Return the frames of a correct reply."""
        pieces, vectors = self.model(texts)
        info = {"dtype": str(vectors.dtype), "shape": vectors.shape, "tokens": pieces}
        return [client, json.dumps(info).encode(), vectors, number]

    def answer_config(self, frames: Frames) -> list[Frames]:
        """Return the answer to a request for the settings."""
        return [[frames[0], json.dumps(self.config).encode(), frames[2]]]

    def start(self) -> None:
        """Start the server."""
        self._context = zmq.Context()
        self._requests = self._context.socket(zmq.PULL)
        self._replies = self._context.socket(zmq.XPUB)  # a PUB that receives subscriptions
        self._subscribed: set[bytes] = set()
        for server in (self._requests, self._replies):
            server.linger = 500  # deliver replies that were sent before the server stopped
        if self._given:
            self._requests.bind(f"tcp://127.0.0.1:{self._given.port}")
            self._replies.bind(f"tcp://127.0.0.1:{self._given.port_out}")
            self.address = self._given
        else:
            port = self._requests.bind_to_random_port("tcp://127.0.0.1")
            port_out = self._replies.bind_to_random_port("tcp://127.0.0.1")
            self.address = Address("127.0.0.1", port, port_out)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close both sockets, as if the server had crashed; a fault may call this."""
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
        self.after_stop()

    def _answer(self, frames: Frames) -> None:
        client, message, number, _ = frames
        if message == b"SHOW_CONFIG":
            self._wait_for_subscription(client)
            messages = self.config_fault(self, frames)
        else:
            texts = json.loads(message)
            self.requests.append(texts)
            try:
                instead = self.fault(self, frames, texts) if self.fault else None
                messages = [self.reply(client, number, texts)] if instead is None else instead
            except Exception as error:
                # Raised at the end of the test; the client gets a reply, so that it does not wait.
                self._error = error
                messages = [[client, b"failed", b"", number]]
        for message in messages:
            if not self._stop.is_set():
                self._replies.send_multipart(message)

    def _wait_for_subscription(self, client: bytes) -> None:
        """Wait until the client has subscribed, up to a second."""
        while client not in self._subscribed and self._replies.poll(1000):
            message = self._replies.recv()
            if message[0] == 1:
                self._subscribed.add(message[1:])

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        if self._error is not None:
            raise self._error
