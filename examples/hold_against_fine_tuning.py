"""Prune a network so that fine-tuning it for another domain does not pay, and try it as an attacker would.

    python examples/hold_against_fine_tuning.py [STEPS]

STEPS is the length of training; 400 takes about five minutes on one CPU core.
"""

from __future__ import annotations

import sys

import freehold as fh
from freehold.attacks.attacker import ATTACKERS, released, scratch, untrained
from freehold.attacks.learning_curve import Budget, Grid, attackers_share, learning_curve
from freehold.metrics.learning_curve import slc_auc
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
run = fh.Run(precision="bf16")

domains = fh.Domains(fh.load_domain("digits-m"), [fh.load_domain("digits", val_fraction=0.3)])
model = fh.load_model("convnet", num_classes=10)
train_classifier(model, domains.authorized, domains.input, Supervised(steps=steps), Trainer(run))

protected = fh.NTP(inner=max(1, steps // 20), steps=2 * steps).protect(model, domains, run=run)
print(fh.evaluate(model, protected.model, domains))

# The attacker has images that the protection never trained on, and starts from the released weights.
thief = attackers_share(domains.unauthorized[0])
budget, grid = Budget(name="equal", patience=steps / 400), Grid(sizes=(10, 50, 200), seeds=1)
starts = {
    "from scratch": scratch(untrained(model), domains.input, 10),
    "unprotected": released(model, ATTACKERS["regrow"], domains.input, 10),
    "protected": released(protected.model, ATTACKERS["regrow"], domains.input, 10),
}
curves = {
    name: learning_curve(name, start, thief, domains.input, budget, grid, run)
    for name, start in starts.items()
}
for name in ("unprotected", "protected"):
    print(slc_auc(curves[name], curves["from scratch"]))
