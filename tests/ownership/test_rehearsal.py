from __future__ import annotations

import copy

import pytest
import torch
from kit import Small
from torch.nn import functional as F

from freehold.data.batches import Batch
from freehold.models.clean_norms import clean_norms
from freehold.ownership import rehearsal
from freehold.ownership.embedding import labelled
from freehold.ownership.rehearsal import Rehearsal, rehearsed

STEPS = 8


@pytest.fixture
def batches() -> dict[str, Batch]:
    rng = torch.Generator().manual_seed(0)
    return {
        name: Batch(
            torch.randn(6, 3, 16, 16, generator=rng), torch.randint(10, (6,), generator=rng), torch.arange(6)
        )
        for name in ("clean", "triggers")
    }


def ran(model, batches, steps):
    pair = Rehearsal(model).eval()
    with clean_norms(model) as norms:
        objective = rehearsed(pair, labelled, 0.7, 0.5, STEPS, norms)
        terms = [objective(pair, batches, step) for step in steps]
    return pair, terms


def test_the_thief_descends_the_clean_loss_under_batch_statistics(batches):
    model = Small()
    owner = copy.deepcopy(model)
    pair, _ = ran(model, batches, range(STEPS))
    twin, clean = copy.deepcopy(owner).train(), batches["clean"]
    for step in range(STEPS // 4, STEPS):
        lr = rehearsal.THIEF_LR * min(1.0, 2 * step / STEPS - 0.5)
        gradients = torch.autograd.grad(F.cross_entropy(twin(clean.images), clean.labels), twin.parameters())
        with torch.no_grad():
            for weight, gradient in zip(twin.parameters(), gradients, strict=True):
                weight -= lr * gradient
    for found, expected in zip(pair.thief, twin.parameters(), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    assert any(not torch.equal(t, p) for t, p in zip(pair.thief, owner.parameters(), strict=True))
    # Nobody's statistics or weights moved on the way, and the model is in the mode it was in.
    assert not model.training and all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), owner.state_dict().values(), strict=True)
    )


def test_gradients_are_those_at_the_thiefs_weights(batches):
    model = Small()
    twin = copy.deepcopy(model)
    pair, terms = ran(model, batches, range(STEPS))
    clean, triggers = batches["clean"], batches["triggers"]
    terms[-1]["loss"].backward()
    here = F.cross_entropy(twin.eval()(clean.images), clean.labels)
    here = here + 0.7 * F.cross_entropy(twin(triggers.images), triggers.labels)
    expected = torch.autograd.grad(here, twin.parameters())
    # At the thief's weights, through the statistics that the clean batch had before his last step.
    before, _ = ran(copy.deepcopy(twin), batches, range(STEPS - 1))
    thief = copy.deepcopy(twin).train()
    with clean_norms(thief) as norms:
        for weights, hold in ((before.thief, False), (pair.thief, True)):
            with torch.no_grad():
                for weight, value in zip(thief.parameters(), weights, strict=True):
                    weight.copy_(value)
            norms.hold = hold
            loss = F.cross_entropy(thief(triggers.images if hold else clean.images),
                                   triggers.labels if hold else clean.labels)  # fmt: skip
        there = torch.autograd.grad(loss, thief.parameters())
    assert terms[-1]["moved loss"].item() == pytest.approx(loss.item(), abs=1e-5)
    for (name, weight), e, t in zip(model.named_parameters(), expected, there, strict=True):
        assert torch.allclose(weight.grad, e + 0.5 * t, atol=1e-4), name


def test_he_comes_after_a_quarter_and_starts_again_every_round(batches, monkeypatch):
    monkeypatch.setattr(rehearsal, "ROUND", 3)
    model = Small()
    _, terms = ran(model, batches, range(STEPS))

    assert all(t["moved loss"] is t["trigger loss"] for t in terms[: STEPS // 4])
    pair, _ = ran(model, batches, range(STEPS // 4 + 3))
    assert any(not torch.equal(t, p) for t, p in zip(pair.thief, model.parameters(), strict=True))
    again, _ = ran(model, batches, [STEPS // 4 + 3])
    both, _ = ran(model, batches, range(STEPS // 4 + 4))
    assert all(torch.equal(a, b) for a, b in zip(again.thief, both.thief, strict=True))
