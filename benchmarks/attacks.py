"""What TransNTL wins back on real domain pairs, without a single image of the closed domain.

    python benchmarks/attacks.py [--methods cuti ntl] [--pairs mnist:usps …] [--steps 300] [--share 0.1]

One JSON each under results/attacks/; a result that is there is not measured again. The data is looked for
in FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import json

from authorization import HERE, METHODS, domains, source_model

import freehold as fh
from freehold.attacks.transntl import TransNTL
from freehold.training import Run

RESULTS = HERE / "results" / "attacks"


def measure(method: str, pair: str, attack: TransNTL, precision: str) -> dict[str, object]:
    given, run = domains(pair), Run(seed=0, precision=precision)
    protected = METHODS[method](pair).protect(source_model(pair, given, precision), given, run=run).model
    attacked = attack.run(protected, given.authorized, given.input, run=run)
    chosen, last = (fh.evaluate(protected, model, given) for model in (attacked.model, attacked.last))
    source, target = chosen.domains
    return {
        "method": method,
        "pair": pair,
        "attack": attacked.record | {"history": None},
        "source": {"protected": source.before.value, "attacked": source.after.value},
        "target": {
            "protected": target.before.value,
            "attacked": target.after.value,
            "at end": last.domains[1].after.value,
        },
        "won back, points": 100 * (target.after.value - target.before.value),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=["cuti", "ntl"], choices=["cuti", "ntl"])
    parser.add_argument("--pairs", nargs="*", default=["mnist:usps", "mnist_m:mnist"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    attack = TransNTL(share=args.share, steps=args.steps, lr=1e-3)
    for pair in args.pairs:
        for method in args.methods:
            path = RESULTS / f"transntl-{method}-{pair.replace(':', '-')}-0.json"
            if not path.exists():
                found = measure(method, pair, attack, args.precision)
                path.write_text(json.dumps(found, indent=1) + "\n")
            found = json.loads(path.read_text())
            print(f"{method:5} {pair:16} target {found['target']}, source {found['source']}", flush=True)


if __name__ == "__main__":
    main()
