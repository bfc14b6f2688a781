from __future__ import annotations

import pytest
import torch
from kit import quiet
from torch import nn

from freehold.attacks.ambiguity import (
    closed_form,
    explained,
    forgeable,
    hidden_net,
    random_passports,
    reverse_engineered,
)
from freehold.attacks.false_claims import adversarial_triggers, labels_after_the_fact
from freehold.attacks.published import DETECTED, TRIGGERS, TriggerClaim, unit_filters
from freehold.attacks.substitute import Substitute
from freehold.data import InputSpec
from freehold.data.batches import fit_images, normalise
from freehold.data.sources import load_domain
from freehold.errors import ModelError, ProblemsError
from freehold.metrics.accuracy import share_correct
from freehold.models.checkpoint import state_hash
from freehold.seeds import generator, global_draws
from freehold.training import Trainer
from freehold.training.classifier import Supervised, train_classifier

SPEC = InputSpec(size=16)
EXAMPLE = SPEC.example()


class Tiny(nn.Module):
    """Three convolutions; the first has more filters than weights in each."""

    def __init__(self) -> None:
        super().__init__()
        with global_draws(0, "tiny"):
            self.body = nn.Sequential(
                nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


@pytest.fixture(scope="module")
def digits():
    return load_domain("digits")


@pytest.fixture(scope="module")
def released(digits):
    model = Tiny()
    train_classifier(model, digits, SPEC, Supervised(steps=80), Trainer(quiet(precision="bf16")))
    return model.eval()


def spelled(pair):
    return torch.tensor([int(bit) for char in b"Mallory!" for bit in f"{char:08b}"])[: pair.channels]


def outputs(model: nn.Module, domain) -> torch.Tensor:
    with torch.no_grad():
        return model(normalise(fit_images(domain.test.images, SPEC), SPEC))


def test_the_closed_form_forgery_is_the_public_branch_with_any_bits_at_all(digits, released):
    before = state_hash(released)
    claim = closed_form(released, EXAMPLE, spelled)
    public, private = outputs(released, digits), outputs(claim.private(released), digits)
    assert torch.allclose(public, private, atol=1e-4)
    assert claim.detected(released) == 1.0
    name = "".join(chr(int("".join(map(str, c)), 2)) for c in claim.layers[1].bits.view(-1, 8).tolist())
    assert name == "Mallory!"
    deployed = share_correct(released, digits.test, SPEC)
    assert claim.accepted(released, deployed, share_correct(claim.private(released), digits.test, SPEC))
    assert state_hash(released) == before
    other = closed_form(released, EXAMPLE, spelled, seed=1).layers[0].scale
    assert torch.cosine_similarity(claim.layers[0].scale, other, dim=0).abs() < 0.5


def test_the_published_protocol_is_the_convolution_of_passports(released):
    """u as published: the mean of the passport's convolution, over the filter's norm."""
    pair = forgeable(released, EXAMPLE)[0]
    weight = released.get_parameter(f"{pair.layer}.weight").detach()
    passport = torch.rand(1, 32, 9, 9, generator=generator(0, "p"))
    seen = nn.functional.unfold(passport, 3, padding=1).mean(2)[0]
    published = nn.functional.conv2d(passport, weight, padding=1).mean((0, 2, 3))
    assert torch.allclose(
        unit_filters(released, pair) @ seen * weight.flatten(1).norm(dim=1), published, atol=1e-5
    )
    assert [p.layer for p in forgeable(released, EXAMPLE)] == [
        "body.4",
        "body.8",
    ]  # the stem cannot be forged


def test_random_passports_lose_the_accuracy_and_the_bits(digits, released):
    true = closed_form(released, EXAMPLE, spelled)
    claims = [random_passports(true.layers, generator(i, "r")) for i in range(5)]
    reached = [share_correct(claim.private(released), digits.test, SPEC) for claim in claims]
    assert sum(reached) / 5 < 0.4 and all(claim.detected(released) > 0.3 for claim in claims)
    deployed = share_correct(released, digits.test, SPEC)
    signs = [random_passports(true.layers, generator(i, "r")).detected(released) for i in range(5)]
    assert 0.35 < sum(signs) / 5 < 0.65 and max(signs) < DETECTED
    assert not any(c.accepted(released, deployed, a) for c, a in zip(claims, reached, strict=True))


@pytest.mark.parametrize("block", ["cross-channel", "individual"])
def test_expanded_residual_blocks_restore_the_accuracy_with_a_tenth_of_the_data(digits, released, block):
    attacked = Substitute(block=block, epochs=30).run(released, digits, SPEC, run=quiet(precision="bf16"))
    assert attacked.record["cost"]["images"] == round(0.1 * len(digits.train))
    deployed = attacked.before.value
    assert attacked.after.value > deployed - 0.1
    claim = explained(released, attacked.model, EXAMPLE)
    assert torch.allclose(
        outputs(claim.private(released), digits), outputs(attacked.model, digits), atol=1e-2, rtol=1e-2
    )
    assert claim.detected(released) == 1.0
    for name, weight in released.named_parameters():
        if weight.dim() > 1:
            assert torch.equal(weight, attacked.model.get_parameter(name))
    shift = claim.layers[0].shift
    assert (unit_filters(released, claim.layers[0].pair) @ shift).std() > 0  # norms of the forger's own


def test_passports_are_reverse_engineered_with_an_h_given_or_learned_along(digits, released):
    true = closed_form(released, EXAMPLE, spelled)
    given = {layer.pair.layer: layer.h for layer in true.layers}
    start = [p.clone() for h in given.values() for p in h.parameters()]
    trainer = Trainer(quiet(precision="bf16"))
    few = digits.train.take(torch.arange(144))
    random = share_correct(
        random_passports(true.layers, generator(0, "r")).private(released), digits.test, SPEC
    )
    for nets in (given, None):
        claim = reverse_engineered(released, few, SPEC, trainer, nets=nets, steps=30)
        assert share_correct(claim.private(released), digits.test, SPEC) > random + 0.15
        assert claim.detected(released) == 1.0
    assert all(
        torch.equal(a, b)
        for a, b in zip(start, (p for h in given.values() for p in h.parameters()), strict=True)
    )


def test_models_without_such_layers_are_refused(digits):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 10))
    with pytest.raises(ModelError, match="fewer filters"):
        closed_form(plain, EXAMPLE, spelled)
    with pytest.raises(ProblemsError, match="fewer filters"):
        Substitute().run(plain, digits, SPEC)


def test_the_forgers_h_is_the_published_one():
    net = hidden_net(16, generator(0, "h"))
    given = torch.randn(2, 16, generator=generator(1, "h"))
    by_hand = nn.functional.leaky_relu(given @ net[0].weight.T, 0.01) @ net[2].weight.T
    assert torch.allclose(net(given), by_hand, atol=1e-6) and len(net[0].weight) == 4


def test_adversarial_triggers_convince_an_innocent_model(digits, released):
    labels = torch.randint(10, (60,), generator=generator(0, "claimed"))
    start = digits.train.images[:60]
    before = state_hash(released)
    claim = adversarial_triggers([released], start, labels, SPEC, steps=40)
    asked = outputs_of(released, claim.images)
    assert claim.images.dtype == torch.uint8 and claim.images.shape == (60, 3, 16, 16)
    assert claim.accepted(asked) and claim.detected(asked) >= TRIGGERS
    assert TriggerClaim(claim.images, labels.roll(1)).detected(asked) < 0.3
    assert state_hash(released) == before and all(p.grad is None for p in released.parameters())
    again = adversarial_triggers([released], start, labels, SPEC, steps=40)
    assert torch.equal(claim.images, again.images)


def test_labels_written_after_the_answers_are_all_right(released):
    noise = torch.randint(256, (50, 3, 16, 16), generator=generator(0, "n"), dtype=torch.uint8)
    claim = labels_after_the_fact(lambda images: outputs_of(released, images), noise)
    assert claim.detected(outputs_of(released, noise)) == 1.0


def outputs_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(normalise(images, SPEC)).argmax(1)
