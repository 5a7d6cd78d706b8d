"""Record the replies of the genuine server again.

Run it as ``uv run --group dev python tests/record_server.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from support.client import connect
from support.genuine import NONE, GenuineServer, make_model
from support.models import TINY, toy_vocabulary
from support.recording import PATH, SCENARIOS, Recording, record, save


def main() -> None:
    """Start a server for each scenario, one after the other."""
    recordings: dict[str, Recording] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, scenario in SCENARIOS.items():
            model = make_model(Path(scratch) / name, TINY, toy_vocabulary(cased=scenario.cased))
            with GenuineServer("-model_dir", model, *NONE, *scenario.options) as server:
                with connect(server.address) as client:
                    recordings[name] = record(client, scenario)
            print(f"{name}: {len(recordings[name].replies)} texts")
    save(recordings)
    print(f"{PATH}: {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
