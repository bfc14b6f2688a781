from __future__ import annotations

import pytest
import torch
from kit import Small
from torch import nn

from freehold.attacks.attacker import ATTACKERS, Attacker, released, scratch, untrained
from freehold.data import InputSpec
from freehold.models.checkpoint import state_hash

SPEC = InputSpec(size=32)


@pytest.fixture
def pruned() -> nn.Module:
    model = Small()
    with torch.no_grad():
        model.features[0].weight[:4] = 0
        model.features[1].weight[:4] = 0
        model.features[4].weight[:, :4] = 0
    return model


def test_the_released_model_stays_as_it_is(pruned):
    before = state_hash(pruned)
    for attacker in ATTACKERS.values():
        attacker.prepare(pruned, SPEC, 10, seed=1)
    assert state_hash(pruned) == before


def train(model: nn.Module, steps: int = 5) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-2)
    torch.manual_seed(0)
    for _ in range(steps):
        model.train()(torch.randn(16, 3, 32, 32)).logsumexp(1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_kept_zeros_stay_exactly_zero_through_momentum_and_decay(pruned):
    model = train(Attacker(zeros="kept").prepare(pruned, SPEC, 10, seed=1))
    for name in ("features.0.weight", "features.4.weight"):
        was, now = pruned.state_dict()[name], model.state_dict()[name]
        assert (now[was == 0] == 0).all() and (now[was != 0] != was[was != 0]).any()


def test_free_zeros_grow_and_new_ones_have_the_scale_of_a_new_layer(pruned):
    dead = pruned.features[4].weight == 0
    model = Attacker(zeros="reinit").prepare(pruned, SPEC, 10, seed=1)
    weight = model.features[4].weight
    assert torch.equal(weight[~dead], pruned.features[4].weight[~dead])
    assert float(weight[dead].std()) == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.1)
    grown = train(Attacker().prepare(pruned, SPEC, 10, seed=1)).features[4].weight
    assert (grown[:, 4:] != 0).all()


def test_norms_are_reset_only_by_who_resets_them(pruned):
    pruned.features[1].running_mean.fill_(3)
    kept = Attacker().prepare(pruned, SPEC, 10, seed=1).features[1]
    assert kept.running_mean[0] == 3 and (kept.weight[:4] == 0).all()
    reset = Attacker(norms="reset").prepare(pruned, SPEC, 10, seed=1).features[1]
    assert reset.running_mean[0] == 0 and (reset.weight == 1).all()


def test_rescaling_undoes_a_change_of_scale(pruned):
    inflated = Small()
    inflated.load_state_dict(pruned.state_dict())
    with torch.no_grad():
        for factor, layer in ((2.0**14, 0), (2.0**10, 4)):
            inflated.features[layer].weight *= factor
            inflated.features[layer + 1].weight *= 64
            inflated.features[layer + 1].bias *= 64
    plain, undone = (Attacker(scale="live").prepare(m, SPEC, 10, seed=1) for m in (pruned, inflated))
    for (name, mine), theirs in zip(plain.named_parameters(), undone.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    weight = undone.features[4].weight
    live = weight != 0
    assert float(weight[live].square().mean()) == pytest.approx(2 * len(weight) / int(live.sum()), rel=1e-4)


def test_the_head_is_fresh_by_seed_or_kept_and_fits_the_attackers_classes(pruned):
    first, again, other = (Attacker().prepare(pruned, SPEC, 10, seed=s).head.weight for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(
        Attacker(head="kept").prepare(pruned, SPEC, 10, seed=1).head.weight, pruned.head.weight
    )
    start = released(pruned, Attacker(head="kept"), SPEC, 7)
    assert start(3)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_scratch_starts_know_nothing_of_the_released_model(pruned):
    build = untrained(pruned)
    one, same, two = (scratch(build, SPEC, 10)(seed) for seed in (1, 1, 2))
    assert state_hash(one) == state_hash(same) != state_hash(two)
    assert (one.features[0].weight != 0).all() and (one.features[1].weight == 1).all()
    vit = nn.Module()
    vit.token = nn.Parameter(torch.full((4, 8), 7.0))
    assert untrained(vit)(0).token.abs().max() < 0.2
