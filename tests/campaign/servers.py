"""Servers that lose, repeat and damage replies, or stop."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from support.command import invoke
from support.damage import damaged_json
from support.standin import CONFIG, Frames, StandIn, Text

from .checks import assert_one_sentence, assert_vectors, case

__all__ = ["broken_servers"]

WORDS = ("hello", "unaffable", "a", "東京", "É", "it's", "|||", "☃", "hank" * 20)


def broken_servers(random: Random, directory: Path) -> int:
    """The result is that of a working server, or there is none, and one sentence says why."""
    text, output = directory / "text", directory / "out.pkl"
    lines = [" ".join(random.choices(WORDS, k=random.randrange(20))) for _ in range(300)]
    text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with StandIn() as server:
        done = invoke("embed", text, "-o", output, "--server", server.address)
        assert done.returncode == 0, done.stderr
    expected = assert_vectors(output, lines)
    cases = 6
    for number in range(cases):
        output.unlink(missing_ok=True)
        faults = Faults(Random(random.random()))
        options = ("--timeout", "0.3", "--retries", random.choice("0139"), "--restart")
        with case(directory, f"number {number}, {faults}, {options}"), faults.server() as server:
            done = invoke("embed", text, "-o", output, "--server", server.address, *options)
            if done.returncode != 0:
                assert_one_sentence(done)
                assert not output.exists()
                continue
            arrays = assert_vectors(output, lines)
            if not faults.changes_settings:  # which may be valid, and those of another server
                assert all(map(np.array_equal, arrays, expected)), done.stderr
    return cases


class Faults:
    """The faults of a server, which occur at random."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rate = random.choice((0.02, 0.2, 0.5, 1))
        self._kinds = random.sample(_KINDS, random.randint(1, 4))
        self._held: list[Frames] = []
        self.changes_settings = random.random() < 0.2
        self._settings = damaged_json(random, CONFIG) if self.changes_settings else CONFIG

    def __str__(self) -> str:
        settings = self._settings if self.changes_settings else "unchanged"
        return f"faults {self._kinds} at {self._rate:.0%} of requests, settings {settings}"

    def server(self) -> StandIn:
        """Return a server with these faults."""
        return StandIn(fault=self._reply, config_fault=self._answer_config)

    def _answer_config(self, server: StandIn, frames: Frames) -> list[Frames]:
        return [[frames[0], json.dumps(self._settings).encode(), frames[2]]]

    def _reply(self, server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        reply = server.reply(frames[0], frames[2], texts)
        if self._random.random() >= self._rate:
            held, self._held = self._held, []
            return [*held, reply]
        kind = self._random.choice(self._kinds)
        if kind == "late":
            self._held.append(reply)
        if kind == "half" and len(texts) > 1:
            return [server.reply(frames[0], frames[2], texts[: len(texts) // 2])]
        if kind == "stop":
            server.stop()
        return self._damaged(kind, reply)

    def _damaged(self, kind: str, reply: Frames) -> list[Frames]:
        client, info, vectors, number = reply
        data = vectors.tobytes()
        if kind == "info":
            changed = damaged_json(self._random, json.loads(info))
            return [[client, json.dumps(changed).encode(), data, number]]
        if kind == "json":
            content = (b"", b"\xff", b"[" * 200_000, b"{}", b"null", self._random.randbytes(50))
            return [[client, self._random.choice(content), data, number]]
        if kind == "data":
            length = self._random.randrange(len(data))
            return [[client, info, self._random.choice((data[:length], data + b"x")), number]]
        if kind == "nan":
            return [[client, info, np.full_like(vectors, np.nan), number]]
        if kind == "number":
            wrong = self._random.choice((b"", b"-1", b"x", b"99999", b"9" * 5000, b"\xff"))
            return [[client, info, data, wrong]]
        if kind == "frames":
            return [[client, *reply[1 : self._random.randrange(1, 4)], *[b"x"] * 5]]
        if kind == "twice":
            return [reply, reply]
        if kind == "stray":
            return [[client, info, data, b"77"], reply]
        return []  # it is lost, late, or never sent by a server that has stopped


_KINDS = (
    *("lost", "late", "half", "stop", "info", "json", "data"),
    *("nan", "number", "frames", "twice", "stray"),
)
