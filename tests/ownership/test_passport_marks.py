"""Passports and bits against independent computation, and the null that verdicts rest on."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from freehold.keys import Key
from freehold.models.alignment import align
from freehold.models.norm_pairs import NormPair
from freehold.ownership import passport_marks
from freehold.ownership.passport_affine import HiddenNet, PassportAffine
from freehold.ownership.passport_marks import Mark, draw_marks, projected, read_bits, write_bits

PAIR = NormPair("conv", "norm", 24, 72)
RNG = torch.Generator().manual_seed(0)


def key(number: int = 0) -> Key:
    return Key(number.to_bytes(32, "big"), "ACME", method="passport")


def shortfall(weight: torch.Tensor, mark: Mark, margin: float, *, canonical: bool) -> torch.Tensor:
    along, _, sign = projected(weight, mark.directions).T
    return passport_marks.shortfall(along, sign, mark.bits, margin, canonical=canonical)


def weights() -> torch.Tensor:
    return torch.randn(24, 8, 3, 3, generator=RNG)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0)])
def test_convolving_a_passport_is_one_product(stride, padding):
    weight, passport = weights(), torch.rand(1, 8, 9, 9, generator=RNG)
    published = F.conv2d(passport, weight, stride=stride, padding=padding).mean((0, 2, 3))
    seen = F.unfold(passport, 3, stride=stride, padding=padding).mean(2)[0]  # S(p)
    sizes = weight.flatten(1).norm(dim=1)
    assert torch.allclose(projected(weight, seen) * sizes, published, atol=1e-5)


def test_projections_of_a_filter_that_knows_nothing_are_standard_normal():
    found = torch.cat([projected(weights(), draw_marks(key(i), [PAIR])[0].scale) for i in range(60)])
    assert stats.kstest(found.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("canonical", [True, False])
def test_written_bits_are_read_with_their_margin_whatever_the_scale(canonical):
    mark, weight = draw_marks(key(), [PAIR])[0], weights()
    before = weight.clone()
    assert shortfall(weight, mark, 1.0, canonical=canonical).sum() > 0
    write_bits(weight, mark, 1.0, canonical=canonical)
    assert torch.equal(read_bits(weight, mark, canonical=canonical), mark.bits)
    assert shortfall(weight, mark, 1.0, canonical=canonical).sum() == 0
    scaled = weight * torch.rand(24, 1, 1, 1, generator=RNG).add(0.1).mul(5).exp()
    assert torch.equal(read_bits(scaled, mark, canonical=canonical), mark.bits)
    change = (weight - before).flatten(1)
    span = torch.stack([mark.scale, mark.sign]) if canonical else mark.scale[None]
    outside = change - change @ torch.linalg.pinv(span) @ span
    assert outside.abs().max() < 1e-4 * change.abs().max()  # nothing is changed that need not be
    assert change.norm() < 0.25 * before.norm()


def test_signs_of_filters_do_not_matter_to_the_canonical_reading_only():
    mark, weight = draw_marks(key(), [PAIR])[0], weights()
    write_bits(weight, mark, 1.0, canonical=True)
    flips = (2 * torch.randint(2, (24, 1, 1, 1), generator=RNG) - 1).float()
    assert torch.equal(read_bits(weight * flips, mark, canonical=True), mark.bits)
    write_bits(weight, mark, 1.0, canonical=False)
    assert not torch.equal(read_bits(weight * flips, mark, canonical=False), mark.bits)


def test_the_hinge_and_its_gradient_are_the_formula():
    mark = draw_marks(key(), [PAIR])[0]
    weight = weights().requires_grad_()
    loss = shortfall(weight, mark, 0.7, canonical=True).sum()
    expected = torch.zeros(())
    for filter_, bit in zip(weight, mark.bits.tolist(), strict=True):
        flat = filter_.flatten()
        along, sign = flat @ mark.scale / flat.detach().norm(), flat @ mark.sign / flat.detach().norm()
        wanted = (1 if bit else -1) * (1 if sign > 0 else -1)
        expected = expected + (0.7 - wanted * along).clamp(min=0) + (0.7 - sign.abs()).clamp(min=0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    mine, theirs = (torch.autograd.grad(value, weight, retain_graph=True)[0] for value in (loss, expected))
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_a_filter_of_zeros_has_no_bit():
    mark = draw_marks(key(), [PAIR])[0]
    assert bool((read_bits(torch.zeros(24, 8, 3, 3), mark, canonical=True) == -1).all())


def test_h_is_two_matrices_and_fits_two_targets_by_the_smallest_change():
    net = HiddenNet.drawn(24, key(), "conv")
    given, targets = torch.randn(2, 24, generator=RNG), torch.randn(2, 24, generator=RNG)
    narrow, wide = net.narrow.weight, net.wide.weight.clone()
    by_hand = F.leaky_relu(given @ narrow.T, 0.01) @ wide.T
    assert narrow.shape == (16, 24) and torch.allclose(net(given), by_hand, atol=1e-5)
    net.fit(given, targets)
    assert torch.allclose(net(given), targets, atol=1e-4)
    assert torch.linalg.matrix_rank(net.wide.weight.detach() - wide, tol=1e-4) == 2
    again = HiddenNet.drawn(24, key(), "conv")
    assert torch.equal(again.narrow.weight, narrow)
    assert not torch.equal(HiddenNet.drawn(24, key(1), "conv").narrow.weight, narrow)


def test_passports_and_bits_stand_in_no_state_dict():
    marks = draw_marks(key(), [PAIR])
    affine = PassportAffine(marks, [HiddenNet.drawn(24, key(), "conv")], margin=1.0, canonical=True)
    for secret in (marks[0].scale, marks[0].shift, marks[0].sign, marks[0].bits.float()):
        assert not any(
            t.shape == secret.shape and torch.equal(t, secret) for t in affine.state_dict().values()
        )
    assert "tensor" not in repr(marks[0])


def test_bits_are_fair_coins_independent_of_the_passports():
    drawn = [draw_marks(key(i), [PAIR])[0] for i in range(400)]
    ones = int(torch.stack([mark.bits for mark in drawn]).sum())
    assert stats.binomtest(ones, 400 * 24).pvalue > 1e-3
    assert not torch.equal(drawn[0].scale, drawn[0].sign) and not torch.equal(drawn[0].scale, drawn[1].scale)


def test_innocent_models_stay_at_chance_under_alignment_even_when_they_resemble_the_reference():
    """The worst innocent: the very network that was marked, its channels in any order, and others near it."""
    reference = weights()
    suspects = [reference, reference[torch.randperm(24, generator=RNG)], weights()]
    suspects.append(reference + 0.5 * weights())
    p_values = []
    for number in range(300):
        mark = draw_marks(key(number), [PAIR])[0]
        suspect = suspects[number % len(suspects)]
        found = align(suspect, reference).weight if number < 60 else suspect
        matches = int((read_bits(found, mark, canonical=True) == mark.bits).sum())
        p_values.append(stats.binom.sf(matches - 1, 24, 0.5))
    for level in (0.5, 0.1, 0.01):
        reached = stats.binom.sf(stats.binom.isf(level, 24, 0.5), 24, 0.5)
        low, high = stats.binom.ppf([0.0005, 0.9995], len(p_values), reached)
        assert low <= sum(p <= level for p in p_values) <= high


def test_the_marked_weights_would_be_no_fair_reference():
    """Why the reference is taken before the bits: matched to marked weights, even noise agrees too often."""
    pair = NormPair("conv", "norm", 64, 9)  # short filters resemble each other
    matches = {"before": 0, "marked": 0}
    for number in range(25):
        mark = draw_marks(key(number), [pair])[0]
        before = torch.randn(64, 1, 3, 3, generator=RNG)
        marked = before.clone()
        write_bits(marked, mark, 1.0, canonical=True)
        noise = torch.randn(64, 1, 3, 3, generator=RNG)
        for name, reference in (("before", before), ("marked", marked)):
            read = read_bits(align(noise, reference).weight, mark, canonical=True)
            matches[name] += int((read == mark.bits).sum())
    assert stats.binomtest(matches["before"], 25 * 64).pvalue > 1e-3
    assert stats.binomtest(matches["marked"], 25 * 64, alternative="greater").pvalue < 1e-6
