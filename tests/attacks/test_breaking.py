"""Attacks are real: each does to a target that is known to give way what its source says."""

from __future__ import annotations

import pytest
import torch
from kit import quiet
from safetensors.torch import save_file
from torch import nn

from freehold.attacks.disguise import Disguise
from freehold.attacks.extract import Extract
from freehold.attacks.fine_prune import FinePrune
from freehold.attacks.fine_tune import FineTune
from freehold.attacks.norm_statistics import NormStatistics
from freehold.attacks.perturb import Perturb
from freehold.attacks.regularize import Regularize
from freehold.attacks.transntl import TransNTL
from freehold.attacks.unprune import Unprune
from freehold.authorization.cuti import CUTI
from freehold.data import Domain, Domains, InputSpec, Split
from freehold.data.sources import load_domain
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.anatomy import maskable_weights
from freehold.ownership.trigger_set import TriggerSet
from freehold.seeds import global_draws
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

SPEC = InputSpec(size=16)


class Narrow(nn.Module):
    """Three convolutions, 24,000 weights: trained within seconds."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        with global_draws(0, "narrow"):
            for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                layers += [nn.MaxPool2d(2)] if outputs < 64 else []
            self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain("digits", limit=800)


@pytest.fixture(scope="module")
def trained(domain) -> nn.Module:
    model = Narrow()
    settings = Supervised(steps=100, lr=1e-2, shift=1)
    train_classifier(model, domain, SPEC, settings, Trainer(quiet()))
    return model.eval()


@pytest.fixture(scope="module")
def marked(domain, trained) -> tuple[nn.Module, Split]:
    """The weakest published watermark: triggers in every batch, and no more."""
    method = TriggerSet(recipe="plain", triggers=30, steps=150, lr=5e-3, weight=1.0, trigger_batch=30)
    protected = method.protect(trained, Domains(domain, [], SPEC), run=quiet(), key=Key(bytes(32), "ACME"))
    triggers = Split(method._images(protected.key), method._trials(protected.key).labels)
    assert share_correct(protected.model, triggers, SPEC) > 0.9
    return protected.model, triggers


ERASERS = [
    FineTune(epochs=8, lr=0.05, schedule="halving"),
    FineTune(variant="RTAL", epochs=8, lr=0.05),
    FinePrune(epochs=6, lr=0.02),
    Perturb(epochs=5),
    Regularize(pressed=3, epochs=5),
    Extract(epochs=12, lr=1e-2, shift=1),
]


@pytest.mark.parametrize("attack", ERASERS, ids=lambda a: f"{a.name}-{getattr(a, 'variant', '')}".strip("-"))
def test_plain_triggers_are_lost_and_the_task_stays(attack, domain, marked):
    model, triggers = marked
    attacked = attack.run(model, domain, SPEC, run=quiet())
    assert share_correct(attacked.model, triggers, SPEC) <= 0.5
    assert attacked.after.value >= attacked.before.value - 0.08


def test_transntl_wins_back_at_least_25_points_without_a_closed_image(domain, trained):
    closed = load_domain("digits | rotate=15", limit=800)
    method = CUTI(steps=100, lr=5e-3)
    protected = method.protect(trained, Domains(domain, [closed], SPEC), run=quiet()).model
    shut = share_correct(protected, closed.test, SPEC)
    assert share_correct(trained, closed.test, SPEC) > shut + 0.4
    attacked = TransNTL(share=1.0, steps=80, lr=1e-3).run(protected, domain, SPEC, run=quiet())
    assert share_correct(attacked.model, closed.test, SPEC) >= shut + 0.25
    assert attacked.after.value > 0.93


def test_a_mask_is_undone_by_a_guess_and_hardly_without_one(domain, trained, tmp_path):
    model, path = Narrow(), tmp_path / "original.safetensors"
    model.load_state_dict(trained.state_dict())
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, path)
    with torch.no_grad():
        for weight in list(maskable_weights(model).values())[1:-1]:
            weight[:, ::3] = 0
    exact = Unprune(guess=str(path)).run(model, domain, SPEC, run=quiet())
    for name, weight in trained.named_parameters():
        assert torch.equal(exact.model.get_parameter(name), weight)
    assert exact.before.value < 0.5 < 0.95 < exact.after.value
    for fill in ("noise", "mean", "low-rank"):
        blind = Unprune(fill=fill).run(model, domain, SPEC, run=quiet())
        assert blind.after.value < exact.after.value - 0.2
        for name, weight in maskable_weights(model).items():
            now = blind.model.get_parameter(name)
            assert torch.equal(now[weight != 0], weight[weight != 0]) and now.all()


def test_statistics_of_the_images_mend_a_model_that_was_closed_by_its_statistics(domain, trained):
    model = Narrow()
    model.load_state_dict(trained.state_dict())
    model.body[1].running_mean += 2
    attacked = NormStatistics().run(model, domain, SPEC, run=quiet())
    assert attacked.before.value < 0.5 and attacked.after.value > 0.9
    assert attacked.record["cost"]["images"] == round(0.1 * len(domain.train))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, attacked.model.get_parameter(name))


def test_a_disguise_opens_what_only_looks_closed(domain, trained):
    negative = load_domain("digits | invert", limit=800)
    attacked = Disguise(steps=10, directions=4).run(trained.eval(), negative, SPEC, run=quiet())
    assert attacked.before.value < 0.3 and attacked.after.value > 0.9
    for name, weight in trained.named_parameters():
        assert torch.equal(weight, attacked.model.model.get_parameter(name))
