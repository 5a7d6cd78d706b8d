"""The command line of the campaigns."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Where pytest finds these packages, too.
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from campaign.runner import main

    sys.exit(main())
