from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from freehold.authorization.admm import Splitting, keep_counts, keep_largest, soft_threshold
from freehold.errors import ModelError

SCOPES = ["global", "layer", "erk"]


def values() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (16, 3, 3, 3), "b": (64, 16, 3, 3), "c": (50, 64)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("sparsity", [0.3, 0.777, 0.95])
def test_the_projection_keeps_exactly_as_many_as_asked_and_projecting_again_changes_nothing(scope, sparsity):
    given = values()
    masks = keep_largest(given, sparsity, scope)
    total = sum(v.numel() for v in given.values())
    assert sum(int(m.sum()) for m in masks.values()) == round((1 - sparsity) * total)
    projected = {n: v * masks[n] for n, v in given.items()}
    again = keep_largest(projected, sparsity, scope)
    assert all(torch.equal(projected[n], projected[n] * again[n]) for n in given)


@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_that_is_cut_is_larger_than_what_is_kept(scope):
    given = values()
    masks = keep_largest(given, 0.9, scope)
    for name, value in given.items():
        assert value[masks[name]].abs().min() >= value[~masks[name]].abs().max()


def test_among_equals_the_count_is_still_exact():
    masks = keep_largest({"a": torch.ones(100, 10), "b": torch.zeros(100, 10)}, 0.9, "global")
    assert sum(int(m.sum()) for m in masks.values()) == 200


def test_the_global_scope_is_a_joint_ranking_above_the_floor():
    large, small = 10 + torch.rand(100, 100), torch.rand(100, 100)
    masks = keep_largest({"large": large, "small": small}, 0.9, "global")
    assert int(masks["small"].sum()) == 100  # one in a hundred is the least
    assert int(masks["large"].sum()) == 1900


def test_erk_densities_are_in_proportion_to_the_sum_of_sides_over_their_product():
    shapes = {"a": torch.Size((32, 32, 3, 3)), "b": torch.Size((256, 256, 3, 3))}
    counts = keep_counts(shapes, 0.9, "erk")
    density = {n: counts[n] / math.prod(s) for n, s in shapes.items()}
    expected = {n: sum(s) / math.prod(s) for n, s in shapes.items()}
    assert density["a"] / density["b"] == pytest.approx(expected["a"] / expected["b"], rel=1e-3)


def test_a_sparsity_that_would_empty_a_layer_is_refused_with_the_most_that_is_possible():
    with pytest.raises(ModelError, match=r"0\.36 is the most"):
        keep_counts({"a": torch.Size((10, 5)), "b": torch.Size((5, 10))}, 0.9, "layer")


def test_the_soft_threshold_is_the_proximal_step_of_the_absolute_value():
    draw = torch.randn(20, generator=torch.Generator().manual_seed(1))
    for value, stepped in zip(draw.tolist(), soft_threshold(draw, 0.3).tolist(), strict=True):
        nearest = minimize_scalar(lambda x, v=value: 0.5 * (x - v) ** 2 + 0.3 * abs(x), (-3, 3))
        assert stepped == pytest.approx(nearest.x, abs=1e-4)


def test_on_a_quadratic_it_finds_the_largest_entries():
    """The sparse matrix nearest to A holds A's largest entries: ADMM has to find it from anywhere."""
    wanted = torch.randn(40, 10, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(40, 10, generator=torch.Generator().manual_seed(3))
    splitting = Splitting(
        {"w": weight}, lambda v: keep_largest(v, 0.8, "layer"), rho=0.3, growth=1.3, cap=50.0
    )
    for _ in range(40):
        rho, z, u = splitting.rho, splitting.z0, splitting.u0
        weight.copy_((wanted + rho * (z - u)) / (1 + rho))  # the exact minimum of the augmented loss
        splitting.update({"w": weight})
    best = wanted * keep_largest({"w": wanted}, 0.8, "layer")["w"]
    assert (splitting.z0 - wanted).square().sum() <= 1.001 * (best - wanted).square().sum()
    assert splitting.primal < 1e-4 and splitting.dual < 1e-3
    assert splitting.rho == 50


def test_the_penalty_is_half_rho_times_the_squared_distance():
    weight = torch.ones(8, 8)
    splitting = Splitting(
        {"w": weight}, lambda v: {"w": torch.eye(8, dtype=torch.bool)}, rho=2.0, growth=2.0, cap=8.0
    )
    assert float(splitting.penalty({"w": weight})) == pytest.approx(56.0)  # Z is the diagonal, U is 0
    splitting.update({"w": weight})
    u = (1 - torch.eye(8)) / 2  # rho doubled, the scaled dual halved
    expected = 4.0 / 2 * (weight - torch.eye(8) + u).square().sum()
    assert float(splitting.penalty({"w": weight})) == pytest.approx(float(expected))
    assert float(splitting.primal) == pytest.approx(math.sqrt(56 / 64))
