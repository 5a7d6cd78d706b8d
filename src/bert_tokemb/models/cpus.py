"""How many processors this process may use, and what they can."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_cpus", "exact_bits"]


def available_cpus(root: Path = Path("/")) -> int:
    """Count the processors that affinity and cgroup allow, at least 1.

    A container often sees every processor of its host and may use the time of a few: a quota
    (``cpu.max`` of cgroup v2, ``cpu.cfs_quota_us`` of v1) says so. One and a half count as two.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cpus, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the processors of every limit that lies on us, those of our ancestors too."""
    with suppress(OSError, UnicodeDecodeError):
        told = (root / "proc/self/cgroup").read_text("utf-8")
        for controllers, path in re.findall(r"^\d+:([^:\n]*):(.*)$", told, re.MULTILINE):
            if controllers == "":
                yield from _limits(root / "sys/fs/cgroup", path)
            elif "cpu" in controllers.split(","):
                yield from _limits(root / "sys/fs/cgroup/cpu", path)


def _limits(mount: Path, path: str) -> Iterator[float]:
    # In a container the mount may show its own group as the root, while the path is the host's.
    groups = [mount / path.strip("/"), *(mount / path.strip("/")).parents]
    for group in groups[: groups.index(mount) + 1]:
        yield from _quota(group / "cpu.max")
        yield from _quota(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")


def _quota(*files: Path) -> Iterator[float]:
    """Yield microseconds of a processor in each period, by the length of the period."""
    # A file that is not there, or that says "max" or -1, sets no limit.
    with suppress(OSError, ValueError, ArithmeticError):
        quota, period = map(int, " ".join(file.read_text("ascii") for file in files).split())
        if quota > 0:
            yield quota / period


def exact_bits(root: Path = Path("/")) -> int:
    """Return how many bits weights may have where vectors of 8 bits are multiplied with them.

    An x86 without VNNI adds two such products in 16 bits, which overflow unless one factor has
    7 bits (ONNX Runtime's documentation of quantization calls that ``reduce_range``).

    Args:
        root: Where ``proc`` lies.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return 8
    with suppress(OSError, UnicodeDecodeError):
        told = (root / "proc/cpuinfo").read_text("utf-8")
        if re.search(r"^flags\b.*\b(avx512_|avx_)vnni\b", told, re.MULTILINE):
            return 8
    return 7
