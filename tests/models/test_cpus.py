"""The number of CPUs and their features, as made-up ``proc`` and ``sys`` directories show them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_tokemb.models.cpus import available_cpus, exact_kernel_bits

GROUP = "proc/self/cgroup"
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"


@pytest.fixture(autouse=True)
def sixty_four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def write_files(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def v1_quota(group: str, quota: object, period: object = 100000) -> dict[str, str]:
    return {
        f"{V1}{group}/cpu.cfs_quota_us": f"{quota}\n",
        f"{V1}{group}/cpu.cfs_period_us": f"{period}\n",
    }


HYBRID = "1:name=systemd:/init.scope\n0::/init.scope\n"
QUOTAS = {
    "no files": ({}, 64),
    "v2, no group": ({f"{V2}/cpu.max": "200000 100000\n"}, 64),
    "v2, no limit": ({GROUP: "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 64),
    "v2, no quota file": ({GROUP: "0::/a/b\n", f"{V2}/a/b/cgroup.procs": "1\n"}, 64),
    "v2, in a container": ({GROUP: "0::/\n", f"{V2}/cpu.max": "300000 100000\n"}, 3),
    "v2, own group": ({GROUP: "0::/a/b\n", f"{V2}/a/b/cpu.max": "200000 100000\n"}, 2),
    "v2, ancestor": (
        {
            GROUP: "0::/a/b/c\n",
            f"{V2}/a/b/c/cpu.max": "max 100000\n",
            f"{V2}/a/cpu.max": "200000 100000\n",
        },
        2,
    ),
    "v2, smallest of several": (
        {
            GROUP: "0::/a/b\n",
            f"{V2}/a/b/cpu.max": "800000 100000\n",
            f"{V2}/a/cpu.max": "500000 100000\n",
            f"{V2}/cpu.max": "700000 100000\n",
        },
        5,
    ),
    "v2, sibling": ({GROUP: "0::/a/b\n", f"{V2}/a/c/cpu.max": "200000 100000\n"}, 64),
    "v2, group of a similar name": ({GROUP: "0::/ab\n", f"{V2}/a/cpu.max": "200000 100000\n"}, 64),
    "v2, path of the host": (
        {GROUP: "0::/docker/0123\n", f"{V2}/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2, path outside the namespace": (
        {GROUP: "0::/../../other\n", f"{V2}/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2, path with colons": (
        {GROUP: "0::/a:b:c\n", f"{V2}/a:b:c/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2, path with a space": ({GROUP: "0::/a b\n", f"{V2}/a b/cpu.max": "200000 100000\n"}, 2),
    "one and a half CPUs": ({GROUP: "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 2),
    "a hundredth of a CPU": ({GROUP: "0::/\n", f"{V2}/cpu.max": "1000 100000\n"}, 1),
    "exactly one CPU": ({GROUP: "0::/\n", f"{V2}/cpu.max": "50000 50000\n"}, 1),
    "more CPUs than exist": ({GROUP: "0::/\n", f"{V2}/cpu.max": "9900000 100000\n"}, 64),
    "v1, own group": ({GROUP: "4:cpu,cpuacct:/a/b\n", **v1_quota("/a/b", 250000)}, 3),
    "v1, controllers in another order": (
        {GROUP: "4:cpuacct,cpu:/a\n", **v1_quota("/a", 250000)},
        3,
    ),
    "v1, single controller": ({GROUP: "4:cpu:/a\n", **v1_quota("/a", 250000)}, 3),
    "v1, ancestor": (
        {
            GROUP: "4:cpu,cpuacct:/a/b\n",
            **v1_quota("/a/b", -1),
            **v1_quota("/a", 50000, 25000),
            **v1_quota("", -1),
        },
        2,
    ),
    "v1, path of the host": ({GROUP: "4:cpu,cpuacct:/docker/0123\n", **v1_quota("", 200000)}, 2),
    "v1, no limit": ({GROUP: "4:cpu,cpuacct:/\n", **v1_quota("", -1)}, 64),
    "v1, other controllers": ({GROUP: "4:cpuset:/a\n5:memory:/a\n", **v1_quota("/a", 200000)}, 64),
    "v1, no period": ({GROUP: "4:cpu:/\n", f"{V1}/cpu.cfs_quota_us": "200000\n"}, 64),
    "v1 and v2": ({GROUP: f"4:cpu,cpuacct:/a\n{HYBRID}", **v1_quota("/a", 200000)}, 2),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_cgroup_quotas_limit_the_number(name: str, tmp_path: Path) -> None:
    files, cpus = QUOTAS[name]
    assert available_cpus(write_files(tmp_path, files)) == cpus


INVALID_QUOTAS = (
    *("", "\n", "max", "100000", "max max", "a b", "1 2 3", "1.5 1", "-1 100000", "-1 -1", "0 1"),
    *("200000 0", "0 0", f"{'9' * 400} 1", f"{'9' * 5000} 1", b"\xff\xfe", b"\0" * 20),
)


@pytest.mark.parametrize("content", INVALID_QUOTAS)
def test_invalid_v2_quota_is_ignored(content: str | bytes, tmp_path: Path) -> None:
    write_files(tmp_path, {GROUP: "0::/\n", f"{V2}/cpu.max": content})
    assert available_cpus(tmp_path) == 64


@pytest.mark.parametrize(
    ("quota", "period"),
    [("", 1), ("a", 1), (200000, ""), (200000, "a"), (200000, 0), ("9" * 400, 1), (-5, 1), (0, 0)],
)
def test_invalid_v1_quota_is_ignored(quota: object, period: object, tmp_path: Path) -> None:
    write_files(tmp_path, {GROUP: "4:cpu:/\n", **v1_quota("", quota, period)})
    assert available_cpus(tmp_path) == 64


@pytest.mark.parametrize(
    "content", ["", "\n", "garbage\n", "0:\n", "0:/\n", b"\xff\xfe\n", "::\n", "0::\n", "4:cpu:\n"]
)
def test_invalid_groups_are_ignored(content: str | bytes, tmp_path: Path) -> None:
    write_files(tmp_path, {GROUP: content, f"{V2}/cpu.max": "max 100000\n"})
    assert available_cpus(tmp_path) == 64


def test_lines_after_an_invalid_group_are_read(tmp_path: Path) -> None:
    write_files(tmp_path, {GROUP: "garbage\n0::/\n", f"{V2}/cpu.max": "200000 100000\n"})
    assert available_cpus(tmp_path) == 2


def test_directories_in_place_of_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / GROUP).mkdir(parents=True)
    assert available_cpus(tmp_path) == 64
    (tmp_path / GROUP).rmdir()
    (tmp_path / f"{V2}/cpu.max").mkdir(parents=True)
    assert available_cpus(write_files(tmp_path, {GROUP: "0::/\n"})) == 64


TEXTS = st.text(st.sampled_from("0123456789-max :/.,cpu\n"), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, TEXTS, TEXTS)
def test_any_content_gives_a_valid_number(
    tmp_path: Path, group: str, limit: str, quota: str
) -> None:
    files = {GROUP: f"0::/\n4:cpu:/\n{group}", f"{V2}/cpu.max": limit, **v1_quota("", quota)}
    assert 1 <= available_cpus(write_files(tmp_path, files)) <= 64


def test_affinity_limits_the_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert available_cpus(tmp_path) == 3
    write_files(tmp_path, {GROUP: "0::/\n", f"{V2}/cpu.max": "500000 100000\n"})
    assert available_cpus(tmp_path) == 3


@pytest.mark.parametrize(("count", "cpus"), [(8, 8), (None, 1)])
def test_cpu_count_is_used_without_affinity(
    count: int | None, cpus: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert available_cpus(tmp_path) == cpus


def test_number_on_this_machine_is_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


CPUINFO = """processor\t: {}
model name\t: Some x86 with avx512_vnni in its name
flags\t\t: fpu sse sse2 avx avx2 {} erms
vmx flags\t: vnmi avx_vnni
bugs\t\t: avx_vnni

"""


@pytest.mark.parametrize(
    ("machine", "flags", "bits"),
    [
        ("x86_64", "avx512f avx512_vnni", 8),
        ("x86_64", "avx_vnni", 8),
        ("AMD64", "avx_vnni", 8),
        ("i686", "avx_vnni", 8),
        ("x86_64", "", 7),
        ("x86_64", "avx512f avx512bw avx512vl", 7),
        ("x86_64", "avx512_vnni2 xavx_vnni vnni", 7),
        ("AMD64", "", 7),
        ("i686", "", 7),
        ("aarch64", "", 8),
        ("ppc64le", "", 8),
    ],
)
def test_kernel_bits_depend_on_vnni(machine: str, flags: str, bits: int, tmp_path: Path) -> None:
    cpuinfo = "".join(CPUINFO.format(i, flags) for i in range(4))
    write_files(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert exact_kernel_bits(tmp_path, machine) == bits


@pytest.mark.parametrize("content", [None, "", "flags", b"flags: avx512_vnni \xff"])
def test_kernel_bits_are_seven_without_cpuinfo(content: str | bytes | None, tmp_path: Path) -> None:
    write_files(tmp_path, {} if content is None else {"proc/cpuinfo": content})
    assert exact_kernel_bits(tmp_path, "x86_64") == 7


def test_kernel_bits_on_this_machine_are_valid() -> None:
    assert exact_kernel_bits() in (7, 8)
