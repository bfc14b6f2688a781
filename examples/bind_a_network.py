"""Bind a network to the domain it was licensed for, on real digits that come with scikit-learn.

    python examples/bind_a_network.py [STEPS]

STEPS is the length of training and of mask learning; 400 takes two minutes on one CPU core.
"""

from __future__ import annotations

import sys

import freehold as fh
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
run = fh.Run(precision="bf16")

# Licensed for digits over photographs; plain digits are somebody else's market.
domains = fh.Domains(fh.load_domain("digits-m"), [fh.load_domain("digits")])

model = fh.load_model("convnet", num_classes=10)
train_classifier(model, domains.authorized, domains.input, Supervised(steps=steps), Trainer(run))

protected = fh.MAP(steps=steps).protect(model, domains, run=run)
print(fh.evaluate(model, protected.model, domains))

kept, total = (sum(counts) for counts in zip(*protected.kept().values(), strict=True))
print(f"{total - kept} of {total} weights were cut, all others are untouched")
