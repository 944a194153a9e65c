"""Started by Copier's `_migrations`; see `migration.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hooks.moves.migration import main

if __name__ == "__main__":
    main(*sys.argv[1:])
