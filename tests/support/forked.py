"""Runs the command, or a function, as a process that starts in milliseconds.

A server process imports the package once and forks for every command, so that tests can start and
kill hundreds of runs.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = [
    "ForkedCommand",
    "ForkedError",
    "at_step",
    "call_forked",
    "limit_file_size",
    "terminate_after",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["bert_tokemb.jobs.job", "bert_tokemb.encoders.local"])


class ForkedCommand:
    """A process that runs ``bert-tokemb``; it is started by the constructor.

    Args:
        arguments: The command line.
        cwd: The working directory; standard output and error go to files in it.
        env: Environment variables to add.
        before: A picklable function to call in the process before the command.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        self._errors = cwd / "stderr"
        environment = {k: v for k, v in os.environ.items() if k.startswith("BERT_TOKEMB_")}
        self._process = _context.Process(
            target=_run,
            args=(list(map(str, arguments)), cwd, {**environment, **(env or {})}, before),
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def send_signal(self, signum: int) -> None:
        os.kill(self._process.pid, signum)

    def kill(self) -> tuple[int, str]:
        self._process.kill()
        return self.wait()

    def wait(self, timeout: float = 120) -> tuple[int, str]:
        """Return the exit code, negative for a signal, and the text on standard error."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            raise TimeoutError(self._errors.read_text("utf-8"))
        # The file does not exist if the process was killed before it started.
        return code, self._errors.read_text("utf-8") if self._errors.exists() else ""


def _run(
    arguments: list[str], cwd: Path, env: Mapping[str, str], before: Callable[[], object] | None
) -> None:
    _prepare()
    os.chdir(cwd)
    os.environ.update(env)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    # The streams inherited from the server process are buffered.
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    sys.argv[1:] = arguments
    if before:
        before()
    from bert_tokemb.__main__ import main

    main()


def _prepare() -> None:
    # Under the method inherited from the server process, tqdm creates a named semaphore, which a
    # killed process leaves behind.
    multiprocessing.set_start_method("fork", force=True)


class ForkedError(Exception):
    """A function in another process raised an exception, crashed, or did not return in time."""


def call_forked(function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """Call a function in a process of its own, and return its result.

    The function, its arguments and its result are pickled. The process may have 8 GiB of addresses,
    so that a mistake cannot take all memory of the machine.

    Raises:
        ForkedError: if the function raises an exception, which the message contains; if the process
            crashes; or if it takes longer than ``timeout`` seconds, after which it prints the
            stacks of its threads and is killed.
    """
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_call, args=(sender, function, arguments, timeout))
    process.start()
    sender.close()
    with receiver:
        try:
            if not receiver.poll(timeout + 1):
                raise ForkedError(f"no result after {timeout} seconds")
            error, result = receiver.recv()
            process.join(timeout)
        except EOFError:
            process.join()
            raise ForkedError(f"crashed with exit code {process.exitcode}") from None
        finally:
            process.kill()
            process.join()
    if error:
        raise ForkedError(error)
    return result


def _call(
    sender: Connection, function: Callable[..., Any], arguments: Sequence[Any], timeout: float
) -> None:
    _prepare()
    resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
    faulthandler.dump_traceback_later(timeout, file=os.dup(2))
    try:
        answer = "", function(*arguments)
    except Exception:  # of any kind: the other process raises it again
        answer = traceback.format_exc(), None
    sender.send(answer)


def limit_file_size(size: int) -> Callable[[], object]:
    """Make writes beyond ``size`` bytes of a file fail, like those to a full disk."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")


def at_step(step: int, signum: int) -> Callable[[], object]:
    """Send the process a signal before its change number ``step`` of the file system, from 0.

    The changes are counted by an audit hook, so no function has to be patched.
    """
    return partial(_send_at_step, step, signum)


def _send_at_step(step: int, signum: int) -> None:
    remaining = [step]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _CHANGES or (event == "open" and ".partial" in str(arguments[0])):
            remaining[0] -= 1
            if remaining[0] == -1:
                os.kill(os.getpid(), signum)

    sys.addaudithook(hook)


def terminate_after(seconds: float) -> Callable[[], object]:
    """Send the process SIGTERM after a number of seconds."""
    return partial(_terminate_after, seconds)


def _terminate_after(seconds: float) -> None:
    def terminate() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
