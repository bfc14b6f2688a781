"""Mark a network with a secret key, let a thief fine-tune a copy, and ask the copy whose it is.

    python examples/mark_a_network.py [STEPS]

STEPS is the length of training, marking and theft; 400 takes two minutes on one CPU core.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path

import freehold as fh
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
run = fh.Run(precision="bf16")
others = fh.Run(precision="bf16", seed=1)
domains = fh.Domains(fh.load_domain("digits-m"), [])
source = domains.authorized


def trained(model, run, steps, lr):
    train_classifier(model, source, domains.input, Supervised(steps=steps, lr=lr), Trainer(run))
    return model


model = trained(fh.load_model("convnet", num_classes=10), run, steps, 3e-3)
innocent = trained(fh.load_model("convnet", num_classes=10, seed=1), others, steps, 3e-3)

owner = fh.Key.born("ACME Ltd")
protected = fh.TriggerSet(recipe="plain", steps=steps).protect(model, domains, run=run, key=owner)
commitment = protected.key.commitment  # publish this before the model
with tempfile.TemporaryDirectory() as folder:  # keep this file, and its passphrase, better than here
    protected.key.save(Path(folder) / "owner.key", "correct horse battery staple")
    key = fh.Key.load(Path(folder) / "owner.key", "correct horse battery staple")

print(f"marked a network for {source.name}; the commitment is {commitment}")
print(fh.evaluate(model, protected.model, domains))
stolen = trained(copy.deepcopy(protected.model), others, steps // 4 or 1, 1e-3)
for name, found in (("marked", protected.model), ("stolen", stolen), ("innocent", innocent)):
    verdict = fh.verify(fh.suspect(found, input=domains.input), key, commitment=commitment)
    print(f"{name:9}{verdict.decision}: {verdict.matches} of {verdict.trials}, p = {verdict.p_value:.1e}")
