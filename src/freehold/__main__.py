"""``python -m freehold`` is the ``freehold`` command."""

from __future__ import annotations

import sys

from freehold.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
