"""Which protection holds? Three methods on one pair of domains, each fine-tuned by a thief, in one table.

    python examples/compare_protections.py [STEPS [FOLDER]]

For researchers. STEPS is the length of training and of each protection; 60 takes half a minute on one CPU
core and is far too short to rank anybody: raise it, and give several seeds. Results, page and tables go to
FOLDER, where the same command finds what is done; without one they are thrown away.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from freehold.bench import Suite, run_suite
from freehold.bench.reporting import write_report
from freehold.bench.stages import Place

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
suite = Suite.model_validate(
    {
        "title": "NTL, CUTI and MAP against a thief with few images of the closed domain",
        "seeds": [0],
        "data": {"image_size": 16, "limit": 400},
        "train": {"steps": steps, "batch_size": 32, "precision": "bf16"},
        "block": [
            {
                "name": "authorization",
                "methods": ["ntl", "cuti", {"name": "map", "lr": 1e-3}],
                "pairs": [{"authorized": "digits-m", "unauthorized": "digits"}],
                "attacks": [{"name": "fine-tune", "data": "unauthorized"}],
                "methods_at_most": {"steps": steps, "batch_size": 16},
                "attacks_at_most": {"epochs": 2},
            }
        ],
    }
)


def compare(folder: Path) -> None:
    found = run_suite(suite, folder / "cells", place=Place(data=folder, cache=folder / "models"))
    written = write_report(suite, folder / "cells", folder)
    print(written["markdown"].read_text())
    print(", ".join(f"{number} cells {state}" for state, number in found.counts().items() if number))
    print(f"page of {written['page'].stat().st_size:,} bytes: {written['page']}")
    if found.failures():
        sys.exit("some cells failed")


if len(sys.argv) > 2:
    compare(Path(sys.argv[2]))
else:
    with tempfile.TemporaryDirectory() as place:
        compare(Path(place))
