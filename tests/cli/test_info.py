"""`bert-tokemb info`; what it finds in results is tested with the formats."""

from __future__ import annotations

from pathlib import Path

from support.command import Command
from support.standin import StandIn


def test_info_summarizes_result(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    options = ("--server", server.address, "-s", "last", "-q")
    for name in ("out.pkl", "out.npyd"):
        assert invoke("embed", text, "-o", tmp_path / name, *options).returncode == 0
    done = invoke("info", "out.pkl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"out.pkl: a pickled list of arrays, {(tmp_path / 'out.pkl').stat().st_size} B\n"
        "  sentences  3, 1 of them without words\n"
        "  words      5\n"
        "  vectors    8 wide, float32\n"
        "  numbers    0 to 111\n"
        "  odd rows   1 of zeros, 0 with NaN or infinity\n"
        "  sentence 1:   2.0000   7.0000   3.0000 111.0000 ...\n"
        "  sentence 1:   4.0000   7.0000   3.0000 100.0000 ...\n"
        "  sentence 1:   5.0000   7.0000   1.0000  33.0000 ...\n"
    )
    with_origin = invoke("info", "out.npyd", cwd=tmp_path).stdout
    assert "\n  strategy        last\n" in with_origin


def test_info_reads_pickle_from_stdin(invoke: Command, server: StandIn, tmp_path: Path) -> None:
    options = ("--server", server.address, "-q")
    assert invoke("embed", "-", "-o", tmp_path / "out", *options, stdin="a b\n").returncode == 0
    done = invoke("info", "-", stdin=(tmp_path / "out").read_bytes())
    assert done.stdout.startswith("/dev/stdin: a pickled list of arrays")
    assert "  words      2\n" in done.stdout


def test_info_of_missing_file_fails(invoke: Command) -> None:
    done = invoke("info", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bert-tokemb: error: cannot read nowhere: No such file or directory\n"
