from __future__ import annotations

import torch
from kit import Small, quiet

from freehold.attacks.filter import Filtered
from freehold.attacks.surgery import CutBranch, inner_networks
from freehold.data import InputSpec
from freehold.data.sources import load_domain
from freehold.models.fusion import Branch, Fused
from freehold.models.weights import state_hash

SPEC = InputSpec(size=32)


def whole(none: float) -> Fused:
    """A network with a branch that says "none" where no class has ``none`` more."""
    model = Fused(Small(), Branch(10, pool=2)).eval()
    with torch.no_grad():
        model.branch.head.bias[-1] += none
    return model


def test_only_what_takes_images_and_gives_logits_is_a_network():
    assert list(inner_networks(Small(), SPEC.example())) == []
    model = whole(0)
    assert list(inner_networks(model, SPEC.example())) == [model.target]
    behind = Filtered(model, "blur", 1.0, SPEC)
    assert list(inner_networks(behind, SPEC.example())) == [model.target, model]


def test_the_branch_goes_and_the_target_stays_as_it_was():
    digits, model = load_domain("digits", limit=60), whole(1e9)
    cut = CutBranch().run(model, digits, SPEC, run=quiet())
    assert isinstance(cut.model, Small) and state_hash(cut.model) == state_hash(model.target)
    assert cut.record["cost"]["images"] == len(digits.val) and cut.after.correct == cut.before.correct


def test_a_part_that_loses_accuracy_is_not_taken_for_the_whole(monkeypatch):
    digits, model = load_domain("digits", limit=60), whole(0)
    for of_target, taken in ((0.894, False), (0.896, True)):
        accuracy = {Fused: 0.9, Small: of_target}
        monkeypatch.setattr("freehold.attacks.surgery.share_correct", lambda m, *_, a=accuracy: a[type(m)])
        cut = CutBranch(loss=0.005).run(model, digits, SPEC, run=quiet())
        assert isinstance(cut.model, Small) == taken
