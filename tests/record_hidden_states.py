"""Compute the expected hidden states of ``support/architectures.py`` again.

Run it as ``python tests/record_hidden_states.py`` where the project, torch and transformers are
installed.
"""

from __future__ import annotations

import numpy as np

from support.architectures import PATH
from support.hugging_face import compute_states, versions


def main() -> None:
    """Compute and store the states, and the versions that computed them."""
    states = dict(compute_states())
    made_by = {name: np.array(version) for name, version in versions().items()}
    np.savez_compressed(PATH, **states, **made_by)  # type: ignore[arg-type]
    print(f"{PATH}: {PATH.stat().st_size:,} bytes, {versions()}")


if __name__ == "__main__":
    main()
