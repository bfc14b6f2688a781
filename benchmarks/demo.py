"""The demo, whole: how long it takes and what it finds.

    python benchmarks/demo.py            writes benchmarks/results/demo.json

Leaves with 1 if it took more than three minutes of processor time, the thief did not match, or somebody
innocent did.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from freehold.protection import versions

RESULTS = Path(__file__).parent / "results"
LONGEST = 180  # seconds


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, "-m", "freehold", "demo", "--json", "--out", f"{folder}/demo"],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = json.loads(ended.stdout)
    result = {
        "processor seconds": round(used.ru_utime + used.ru_stime, 1),
        "domains": {domain["name"]: domain for domain in said["evaluation"]["domains"]},
        "verdicts": {
            verdict["suspect"]: {k: verdict[k] for k in ("decision", "matches", "trials", "p_adjusted")}
            for verdict in said["verify"]["verdicts"]
        },
        "versions": versions(),
    }
    (RESULTS / "demo.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(result, indent=1))
    decisions = [verdict["decision"] for verdict in result["verdicts"].values()]
    return int(result["processor seconds"] > LONGEST or decisions != ["MATCH", "NO_MATCH"])


if __name__ == "__main__":
    sys.exit(main())
