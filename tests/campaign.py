"""The fault campaign: random faults, for as long as you like.

    uv run --group dev python -m tests.campaign --minutes 10 --seed 1

A case is determined by the seed, the name of the campaign and a number. One that fails is printed
with the command that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import pickle
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zmq

sys.path.insert(0, str(Path(__file__).parent))

from bert_tokemb import Address, embed
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.serve.settings import Limits, Settings
from support.client import connect
from support.command import invoke
from support.forked import ForkedCommand
from support.models import tokenizer_json, write_hugging_face
from support.ours import serving
from support.resuming import LOOK_AHEAD, content
from support.standin import Frames, StandIn, Text
from support.tiny import TINY, VOCABULARY, WEIGHTS, start, write_tiny

__all__ = ["CAMPAIGNS", "run_campaign"]

Case = Callable[[random.Random, Path], None]
"""One case; it raises an exception if a promise is broken. The directory is empty."""

_TIMEOUT = 120  # seconds for one case
_KNOWN_ERRORS = (1, 2, 3, 4)  # exit codes


# Removed when the process ends.
_scratch = tempfile.TemporaryDirectory(prefix="campaign-")


@cache
def _model() -> Path:
    return write_tiny(Path(_scratch.name) / "model")


@cache
def _encoder() -> LocalEncoder:
    return LocalEncoder(start(_model(), device="cpu", threads=2))


def _word(rng: random.Random) -> str:
    """Return a word of known pieces, or of characters from all of Unicode."""
    if rng.random() < 0.5:
        return rng.choice(["hello", "World", "!", "[SEP]", "|||", "hankcs", "\u6771\u4eac"])
    points = (rng.choice([0x7F, 0x600, 0x3000, 0x10FFFF]) for _ in range(rng.randint(1, 12)))
    chars = (chr(rng.randint(1, most)) for most in points)
    return "".join(char for char in chars if not "\ud800" <= char <= "\udfff")


def _line(rng: random.Random) -> str:
    words = [_word(rng) for _ in range(rng.choice([0, 1, 3, 10, 40, 90]))]
    return rng.choice([" ", "\t", "\u3000"]).join(words).replace("\n", " ")


def lines_through_the_engine(rng: random.Random, directory: Path) -> None:
    """Rows equal words, and the vectors do not depend on the other lines."""
    lines = [_line(rng) for _ in range(30)]
    arrays = list(embed(lines, _encoder(), look_ahead=rng.choice([1, 10_000, 1 << 20])))
    assert [len(array) for array in arrays] == [len(line.split()) for line in lines]
    i = rng.randrange(len(lines))
    (alone,) = embed([lines[i]], _encoder())
    np.testing.assert_array_equal(arrays[i], alone, strict=True)


def kills(rng: random.Random, directory: Path) -> None:
    """A run that is killed at random moments ends with the bytes of an undisturbed run."""
    format = rng.choice(["pkl", "npyd"])
    (directory / "text").write_text("".join(f"{_line(rng)}\n" for _ in range(400)), "utf-8")
    fixed = ("--model", _model(), "--threads", 1, "--look-ahead", LOOK_AHEAD, "--format", format)

    def arguments(name: str) -> list[object]:
        return ["embed", "text", "-o", name, *fixed]

    assert ForkedCommand(arguments("undisturbed"), directory).wait()[0] == 0
    for _ in range(rng.randint(1, 4)):
        process = ForkedCommand(arguments("killed"), directory)
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
    code, stderr = ForkedCommand(arguments("killed"), directory).wait()
    assert code == 0, stderr
    files = [content(directory / name) for name in ("killed", "undisturbed")]
    if format == "npyd":
        assert files[0] == files[1]
    else:
        assert [*files[0].values()] == [*files[1].values()]
    assert {path.name for path in directory.iterdir()} == {
        *("text", "undisturbed", "killed", "stdout", "stderr")
    }


def _damaged(rng: random.Random, data: bytes) -> bytes:
    """Return data of which some bytes are changed, removed or repeated."""
    start = int(rng.random() ** 3 * len(data))  # mostly near the beginning
    end = min(len(data), start + rng.choice([1, 1, 4, 100, 100_000]))
    kind = rng.randrange(4)
    if kind == 0:
        return data[:start]
    if kind == 1:
        return data[:start] + data[end:]
    if kind == 2:
        return data[:end] + data[start:]
    return data[:start] + rng.randbytes(end - start) + data[end:]


def _check_error(code: int, stderr: str) -> None:
    assert code in _KNOWN_ERRORS, (code, stderr)
    errors = [line for line in stderr.splitlines() if line.startswith("bert-tokemb: error: ")]
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr, stderr


def damaged_models(rng: random.Random, directory: Path) -> None:
    """A damaged model is used, or refused with one sentence."""
    model = write_hugging_face(
        directory / "model", TINY, VOCABULARY, WEIGHTS, tokenizer=tokenizer_json(VOCABULARY)
    )
    path = rng.choice(sorted(path for path in model.iterdir() if path.is_file()))
    path.write_bytes(_damaged(rng, path.read_bytes()))
    (directory / "text").write_text("Hello World !\nhankcs\n")
    command = ["embed", "text", "-o", "out.pkl", "--model", model, "--threads", 1]
    code, stderr = ForkedCommand(command, directory).wait(_TIMEOUT)
    if code:
        _check_error(code, stderr)
        assert not (directory / "out.pkl").exists()
    else:
        arrays = pickle.loads((directory / "out.pkl").read_bytes())
        assert [len(array) for array in arrays] == [3, 1]
        assert all(np.isfinite(array).all() for array in arrays)


@cache
def _results() -> Mapping[str, Path]:
    """Return a result in each format."""
    directory = Path(_scratch.name)
    (directory / "text").write_text("Hello World !\n\nhankcs \u2603\n", "utf-8")
    for format in FORMATS:
        command = ("embed", "text", "-o", format, "--format", format, "--model", _model())
        assert invoke(*map(str, command), cwd=directory).returncode == 0
    return {format: directory / format for format in FORMATS}


def hostile_results(rng: random.Random, directory: Path) -> None:
    """A damaged result is described, or refused with one sentence."""
    format, path = rng.choice(sorted(_results().items()))
    hostile = directory / f"result.{format}"
    if path.is_dir():
        shutil.copytree(path, hostile)
        file = rng.choice(sorted(hostile.iterdir()))
    else:
        shutil.copyfile(path, hostile)
        file = hostile
    for _ in range(rng.randint(1, 3)):
        file.write_bytes(_damaged(rng, file.read_bytes()))
    code, stderr = ForkedCommand(["info", hostile], directory).wait(_TIMEOUT)
    if code:
        _check_error(code, stderr)


def _spoil(rng: random.Random, server: StandIn, frames: Frames, texts: list[Text]) -> Any:
    """Return the messages to send instead of a reply, or None for the reply."""
    client, info, data, number = server.reply(frames[0], frames[2], texts)
    vectors = data.tobytes()
    kind = rng.randrange(8)
    if kind == 0:
        return []
    if kind == 1:
        return [[client, _damaged(rng, info), vectors, number]]
    if kind == 2:
        return [[client, info, vectors[: rng.randrange(len(vectors) or 1)], number]]
    if kind == 3:
        return [[client, info, vectors, b"%d" % rng.randrange(100)]]
    if kind == 4:
        settings = {
            **json.loads(info),
            rng.choice(["dtype", "shape", "tokens"]): rng.choice([1, []]),
        }
        return [[client, json.dumps(settings).encode(), vectors, number]]
    return None


def broken_servers(rng: random.Random, directory: Path) -> None:
    """With a server that fails now and then, the result is correct, or there is one sentence."""
    lines = [" ".join(_word(rng) for _ in range(rng.randint(1, 6))) for _ in range(60)]
    (directory / "text").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    share = rng.choice([0.1, 0.5, 1.0])

    def fault(server: StandIn, frames: Frames, texts: list[Text]) -> Any:
        return _spoil(rng, server, frames, texts) if rng.random() < share else None

    command = ("embed", "text", "--timeout", "0.5", "--retries", "2")
    with StandIn() as server:
        done = invoke(*command, "-o", "good", "--server", server.address, cwd=directory)
        assert done.returncode == 0, done.stderr
    with StandIn(fault=fault) as server:
        done = invoke(*command, "-o", "out", "--server", server.address, cwd=directory)
    if done.returncode:
        _check_error(done.returncode, done.stderr)
    else:
        good, found = (pickle.loads((directory / name).read_bytes()) for name in ("good", "out"))
        for array, other in zip(good, found, strict=True):
            assert array.shape == other.shape
            np.testing.assert_array_equal(array[:, 0], other[:, 0])  # the position of the piece


def _send_garbage(rng: random.Random, address: Address, stop: threading.Event) -> None:
    while not stop.is_set():
        port = rng.choice([address.port, address.port_out])
        data = rng.choice([b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 9, rng.randbytes(500)])
        with contextlib.suppress(OSError), socket.create_connection((address.host, port)) as peer:
            peer.sendall(data)
            time.sleep(0.01)


def clients_next_to_garbage(rng: random.Random, directory: Path) -> None:
    """Each client of our server receives its own replies, whatever others send."""
    shapes: dict[int, list[Any]] = {}
    stop = threading.Event()

    def ask(address: Address, i: int) -> None:
        with connect(address, identity=b"worker%d" % i) as client:
            shapes[i] = [client.encode(["a " * (i + 1)] * n).shape for n in (1, 3, 20)]

    engine = start(_model(), device="cpu", threads=2)
    with (
        serving(engine, Settings(show_tokens_to_client=True), Limits(quiet=0.05)) as address,
        zmq.Context() as context,
        context.socket(zmq.SUB) as everything,
    ):
        everything.linger = 0
        everything.subscribe(b"")
        everything.connect(f"tcp://{address.host}:{address.port_out}")
        garbage = threading.Thread(target=_send_garbage, args=(rng, address, stop))
        clients = [threading.Thread(target=ask, args=(address, i)) for i in range(12)]
        for thread in (garbage, *clients):
            thread.start()
        for thread in clients:
            thread.join(_TIMEOUT)
        stop.set()
        garbage.join(_TIMEOUT)
        assert not everything.poll(50)
    expected = {i: [(n, i + 3, TINY["hidden_size"]) for n in (1, 3, 20)] for i in range(12)}
    assert shapes == expected


CAMPAIGNS: Mapping[str, Case] = {
    "lines": lines_through_the_engine,
    "kills": kills,
    "models": damaged_models,
    "results": hostile_results,
    "servers": broken_servers,
    "clients": clients_next_to_garbage,
}


def run_case(name: str, seed: int, number: int) -> None:
    """Run one case; an exception says which promise is broken."""
    rng = random.Random(f"{seed} {name} {number}")
    with tempfile.TemporaryDirectory(prefix="campaign-") as directory:
        CAMPAIGNS[name](rng, Path(directory))


def run_campaign(name: str, seed: int, seconds: float) -> int:
    """Run cases until the time is up, and return their number.

    Raises:
        AssertionError: if a case fails; the message says how to repeat it.
    """
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            run_case(name, seed, number)
        except Exception as error:
            raise AssertionError(
                f"python -m tests.campaign --seed {seed} --only {name} --case {number}"
            ) from error
        number += 1
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all campaigns, each for its share of the time; return 1 if a case fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", choices=CAMPAIGNS)
    parser.add_argument("--case", type=int)
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(CAMPAIGNS)
    if options.case is not None:
        run_case(names[0], options.seed, options.case)
        return 0
    logging.getLogger("bert_tokemb.serve").propagate = False  # what it says of the garbage
    logging.getLogger("bert_tokemb.serve").addHandler(logging.NullHandler())
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    failed = False
    for name in names:
        try:
            cases = run_campaign(name, options.seed, 60 * options.minutes / len(names))
            print(f"{name:8} {cases:7,} cases, no failure", flush=True)
        except AssertionError:
            failed = True
            print(f"{name:8} FAILED", flush=True)
            traceback.print_exc()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
