"""The number of CPUs that this process may use, and what they can do."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_cpus", "exact_kernel_bits"]


def available_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs that affinity and cgroup quotas allow, at least 1.

    A container often sees all CPUs of its host, but may use the time of a few. A quota of one and
    a half CPUs counts as 2.

    Args:
        root: The directory that holds ``proc`` and ``sys``.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _cgroup_quotas(root))]))


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that this process's control groups and their ancestors allow."""
    with suppress(OSError, UnicodeDecodeError):
        groups = (root / "proc/self/cgroup").read_text("utf-8")
        for controllers, path in re.findall(r"^\d+:([^:\n]*):(.*)$", groups, re.MULTILINE):
            if controllers == "":  # cgroup v2
                yield from _quotas_on_path(root / "sys/fs/cgroup", path)
            elif "cpu" in controllers.split(","):
                yield from _quotas_on_path(root / "sys/fs/cgroup/cpu", path)


def _quotas_on_path(mount: Path, path: str) -> Iterator[float]:
    # In a container the mount may start at its own group, although the path is that of the host.
    group = mount / path.strip("/")
    for directory in (group, *group.parents):
        yield from _quota(directory / "cpu.max")
        yield from _quota(directory / "cpu.cfs_quota_us", directory / "cpu.cfs_period_us")
        if directory == mount:
            break


def _quota(*files: Path) -> Iterator[float]:
    """Yield microseconds of CPU time in each period, divided by the length of the period."""
    # A file that is absent or says "max" or -1 sets no limit.
    with suppress(OSError, ValueError, ArithmeticError):
        quota, period = map(int, " ".join(file.read_text("ascii") for file in files).split())
        if quota > 0:
            yield quota / period


def exact_kernel_bits(root: Path = Path("/"), machine: str | None = None) -> int:
    """Return the number of bits of quantized kernels for which int8 products are exact.

    An x86 CPU without VNNI adds two products of 8 bits in 16 bits, which overflow unless kernels
    have 7 bits. (ONNX Runtime's documentation of quantization calls this ``reduce_range``.)

    Args:
        root: The directory that holds ``proc``.
        machine: The kind of CPU; by default ``platform.machine()``.
    """
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64", "i686"):
        return 8
    with suppress(OSError, UnicodeDecodeError):
        cpuinfo = (root / "proc/cpuinfo").read_text("utf-8")
        if re.search(r"^flags\b.*\b(avx512_|avx_)vnni\b", cpuinfo, re.MULTILINE):
            return 8
    return 7
