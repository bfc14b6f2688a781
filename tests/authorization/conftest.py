from __future__ import annotations

import pytest
from kit import Small, quiet

from freehold.data import Domains
from freehold.data.sources import load_domain
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier


@pytest.fixture(scope="session")
def domains() -> Domains:
    return Domains(load_domain("digits"), [load_domain("digits | rotate=15")])


@pytest.fixture(scope="session")
def trained(domains) -> Small:
    """A small network that has learned something."""
    model = Small()
    settings = Supervised(steps=150, batch_size=32, lr=1e-2, shift=0)
    train_classifier(model, domains.authorized, domains.input, settings, Trainer(quiet()))
    return model
