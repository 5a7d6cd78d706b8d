"""The command, as a script that tells how much memory it took."""

from __future__ import annotations

__all__ = ["MEASURE"]

MEASURE = """
from bert_tokemb.__main__ import main
try:
    main()
finally:
    # Not getrusage: its peak is at least that of the process that started this one.
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""
"""Prints the peak of resident memory, in KiB."""
