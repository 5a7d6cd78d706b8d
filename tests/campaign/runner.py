"""Runs campaigns in rounds until the time is up, and says how to repeat a round that failed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory

from support.forked import call_forked

from .checks import CASE
from .clients import parallel_clients
from .kills import kills
from .models import damaged_models
from .results import hostile_results
from .servers import broken_servers
from .texts import random_lines

__all__ = ["CAMPAIGNS", "Campaign", "RoundError", "main", "parser", "run_campaign", "run_round"]


@dataclass(frozen=True)
class Campaign:
    """A campaign.

    Attributes:
        check: Checks random cases in an empty directory, and returns their number.
        forked: Whether a round runs in a process of its own, which may crash or hang; or else the
            campaign starts processes itself.
        timeout: Seconds after which a forked round is killed; it takes a few.
    """

    check: Callable[[Random, Path], int]
    forked: bool = True
    timeout: float = 120


CAMPAIGNS: dict[str, Campaign] = {
    "texts": Campaign(random_lines),
    "servers": Campaign(broken_servers),
    "clients": Campaign(parallel_clients),
    "kills": Campaign(kills, forked=False),
    "models": Campaign(damaged_models),
    "results": Campaign(hostile_results),
}


class RoundError(Exception):
    """A round failed; the message contains its case, the reason, and the command to repeat it."""


def run_round(name: str, seed: int, number: int) -> int:
    """Run a round of a campaign, and return the number of its cases.

    Raises:
        RoundError: if the tool does not keep a promise.
    """
    campaign, random = CAMPAIGNS[name], Random(f"{seed} {name} {number}")
    with TemporaryDirectory(prefix="campaign-") as scratch:
        directory = Path(scratch)
        try:
            if campaign.forked:
                return int(call_forked(campaign.check, random, directory, timeout=campaign.timeout))
            return campaign.check(random, directory)
        except Exception as error:  # of any kind: none is expected
            path = directory / CASE
            description = path.read_text("utf-8") if path.exists() else "none"
            raise RoundError(
                f"{type(error).__name__}: {error}\ncase: {description}\nrepeat it by: "
                f"python -m tests.campaign --seed {seed} --only {name} --round {number}"
            ) from error


def run_campaign(
    name: str, seed: int, seconds: float, on_failure: Callable[[RoundError], object]
) -> tuple[int, int]:
    """Run rounds of a campaign for some seconds, at least one.

    Args:
        on_failure: Called after each round that failed; the next rounds follow.

    Returns:
        The number of cases and of rounds.
    """
    end, number, cases = time.monotonic() + seconds, 0, 0
    while not number or time.monotonic() < end:
        try:
            cases += run_round(name, seed, number)
        except RoundError as error:
            on_failure(error)
        number += 1
    return cases, number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code: 1 if a round failed."""
    options = parser().parse_args(arguments)
    names = [options.only] if options.only else list(CAMPAIGNS)
    print(f"seed {options.seed}", flush=True)
    if options.round is not None:
        print(f"{names[0]}: {run_round(names[0], options.seed, options.round)} cases")
        return 0
    failures: list[RoundError] = []

    def report(error: RoundError) -> None:
        failures.append(error)
        print(f"FAILED: {error}", flush=True)

    end = time.monotonic() + 60 * options.minutes
    for i, name in enumerate(names):
        # Each campaign has an equal share of the time that is left.
        seconds = (end - time.monotonic()) / (len(names) - i)
        cases, rounds = run_campaign(name, options.seed, seconds, report)
        print(f"{name}: {cases:,} cases in {rounds} rounds", flush=True)
    print(f"{len(failures)} rounds failed")
    return 1 if failures else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    made.add_argument("--minutes", type=float, default=10, help="for all campaigns together")
    made.add_argument("--seed", type=int, default=SystemRandom().randrange(10**6))
    made.add_argument("--only", choices=list(CAMPAIGNS), help="the campaign to run")
    made.add_argument("--round", type=int, help="repeat a round of it")
    return made
