from __future__ import annotations

import pytest
import torch
from kit import Small, quiet
from safetensors.torch import load_file

from freehold.authorization.map import MAP
from freehold.authorization.scores import ScoreAdam
from freehold.errors import ProblemsError
from freehold.metrics.transfer import evaluate
from freehold.models.anatomy import maskable_weights
from freehold.models.checkpoint import Recipe, apply_mask_file, state_hash

FAST = {"steps": 150, "batch_size": 32, "lr": 1e-3, "target_weight": 0.5}


@pytest.fixture(scope="module")
def protected(trained, domains):
    return trained, MAP(**FAST).protect(trained, domains, run=quiet())


def test_some_weights_are_cut_and_all_others_are_byte_identical(protected):
    model, result = protected
    before, after = model.state_dict(), result.model.state_dict()
    assert 0 < sum(k for k, _ in result.kept().values()) < sum(n for _, n in result.kept().values())
    for name, tensor in before.items():
        if name in result.mask:
            expected = torch.where(result.mask[name], tensor, torch.zeros(()))
            assert torch.equal(after[name], expected)
        else:
            assert after[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_the_target_falls_further_than_the_source(protected, domains):
    model, result = protected
    evaluation = evaluate(model, result.model, domains)
    assert evaluation.target_drop > 0 and evaluation.st_d.value < 1


def test_mask_and_original_weights_rebuild_the_shipped_model_exactly(protected, domains, tmp_path):
    model, result = protected
    result.save(tmp_path, Recipe(model=None, input=domains.input, classes=domains.authorized.classes))
    rebuilt = apply_mask_file(tmp_path / "mask.safetensors", model.state_dict())
    assert state_hash(rebuilt) == state_hash(result.model)
    bits = sum(t.numel() for t in load_file(tmp_path / "mask.safetensors").values())
    assert bits <= sum(m.numel() for m in result.mask.values()) // 8 + len(result.mask)


def test_the_mask_starts_as_identity(domains):
    model = Small()
    result = MAP(steps=1, batch_size=8, lr=1e-9).protect(model, domains, run=quiet())
    assert all(m.all() for m in result.mask.values())
    assert state_hash(result.model) == state_hash(model)


def test_excluded_weights_are_never_cut(domains):
    result = MAP(**FAST, exclude=("head*",)).protect(Small(), domains, run=quiet())
    assert set(result.mask) == set(maskable_weights(Small())) - {"head.weight"}


def test_a_pattern_that_matches_nothing_is_a_problem(domains):
    with pytest.raises(ProblemsError, match="matches no maskable weight"):
        MAP(exclude=("haed*",)).protect(Small(), domains)


def test_excluding_everything_is_a_problem(domains):
    with pytest.raises(ProblemsError, match="no weight to cut"):
        MAP(exclude=("*",)).protect(Small(), domains)


def test_score_optimiser_is_adam_without_floor():
    generator = torch.Generator().manual_seed(0)
    mine = [
        torch.nn.Parameter(torch.randn(5, 3, generator=generator)),
        torch.nn.Parameter(torch.randn(7, generator=generator)),
    ]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    optimisers = ScoreAdam(mine, 1e-2, floor=0.0, bounds=(-99, 99)), torch.optim.Adam(theirs, 1e-2)
    for _ in range(6):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


def test_the_floor_holds_back_small_gradients_and_scores_stay_in_bounds():
    loud, quiet_one = torch.nn.Parameter(torch.zeros(100)), torch.nn.Parameter(torch.zeros(100))
    optimiser = ScoreAdam([loud, quiet_one], 1e-2, floor=0.1, bounds=(-0.02, 0.02))
    for _ in range(5):
        loud.grad, quiet_one.grad = torch.ones(100), torch.full((100,), 1e-5)
        optimiser.step()
    assert torch.all(loud == -0.02) and quiet_one.abs().max() < 1e-5


def test_score_optimiser_resumes_exactly():
    def run(break_at=None):
        score = torch.nn.Parameter(torch.zeros(20))
        optimiser = ScoreAdam([score], 1e-3, floor=0.1, bounds=(-1, 1))
        generator = torch.Generator().manual_seed(1)
        for step in range(8):
            if step == break_at:
                state = optimiser.state_dict()
                optimiser = ScoreAdam([score], 1e-3, floor=0.1, bounds=(-1, 1))
                optimiser.load_state_dict(state)
            score.grad = torch.randn(20, generator=generator)
            optimiser.step()
        return score.detach()

    assert torch.equal(run(), run(break_at=3))
