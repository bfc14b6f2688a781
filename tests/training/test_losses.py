from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from freehold.training.losses import (
    bounded_divergence,
    distillation,
    fisher_ratio,
    label_divergence,
    mmd,
)


def expanded_mmd(source, target):
    """The textbook form with every pairwise difference spelled out."""
    stacked = torch.cat([source, target])
    n, batch = len(stacked), len(source)
    distance = (stacked[None] - stacked[:, None]).square().sum(2)
    bandwidth = distance.detach().sum() / (n * n - n) / 4
    kernel = sum(torch.exp(-distance / (bandwidth * 2**i)) for i in range(5))
    ss, tt = kernel[:batch, :batch], kernel[batch:, batch:]
    st, ts = kernel[:batch, batch:], kernel[batch:, :batch]
    return (ss + tt - st - ts).mean()


@pytest.mark.parametrize(
    ("batch", "width", "offset"), [(4, 7, 0.0), (16, 300, 1.0), (32, 16_384, 0.1), (8, 50, 100.0)]
)
def test_gram_form_equals_expansion_in_value_and_gradient(batch, width, offset):
    generator = torch.Generator().manual_seed(batch)
    source = torch.randn(batch, width, generator=generator) + offset
    target = 1.3 * torch.randn(batch, width, generator=generator) + offset + 0.2
    values, gradients = [], []
    for function in (mmd, expanded_mmd):
        # float64 for the expansion: it is the reference, not a competitor here
        dtype = torch.float32 if function is mmd else torch.float64
        inputs = [x.clone().to(dtype).requires_grad_() for x in (source, target)]
        value = function(*inputs)
        values.append(value.detach().double())
        gradients.append(torch.cat(torch.autograd.grad(value, inputs)).double())
    assert values[0] == pytest.approx(values[1].item(), rel=1e-5)
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**31))
def test_mmd_is_symmetric_bounded_and_zero_for_equal_batches(batch, width, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, batch, width, generator=generator)
    assert -1e-5 <= float(mmd(a, b)) <= 10
    assert float(mmd(a, b)) == pytest.approx(float(mmd(b, a)), abs=1e-5)
    assert float(mmd(a, a.clone())) == pytest.approx(0, abs=1e-5)


def test_mmd_of_constant_features_is_finite_with_finite_gradient():
    source = torch.ones(4, 8, requires_grad=True)
    value = mmd(source, torch.ones(4, 8))
    (gradient,) = torch.autograd.grad(value, source)
    assert value.isfinite() and gradient.isfinite().all()


def test_mmd_grows_as_batches_part():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 32, 64, generator=generator)
    values = [float(mmd(a, b + shift)) for shift in (0.0, 0.5, 2.0)]
    assert values == sorted(values)


def test_label_divergence_equals_torch_kl_in_both_reductions():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(6, 10, generator=generator), torch.arange(6)
    onehot = F.one_hot(labels, 10).float()
    for reduction in ("mean", "batchmean"):
        total = F.kl_div(logits.log_softmax(1), onehot, reduction="sum")
        expected = total / (len(labels) * (10 if reduction == "mean" else 1))
        assert float(label_divergence(logits, labels, reduction)) == pytest.approx(float(expected), rel=1e-6)


def test_bounded_divergence_stops_pushing_what_is_wrong_enough():
    logits = torch.tensor([[10.0, 0.0], [0.0, 10.0]], requires_grad=True)
    value = bounded_divergence(logits, torch.tensor([0, 0]), bound=3.0)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(1.5, abs=1e-3)
    assert gradient[1].abs().sum() == 0 and gradient[0].abs().sum() > 0


def test_distillation_is_zero_at_the_teacher_and_equals_its_definition():
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 5, 7, generator=generator)
    p, q = teacher.softmax(1), student.softmax(1)
    assert float(distillation(student, teacher)) == pytest.approx(
        float((p * (p / q).log()).sum(1).mean()), rel=1e-5
    )
    assert float(distillation(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def by_hand(features: np.ndarray, labels: np.ndarray) -> float:
    """The Fisher ratio, sample by sample."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    classes = [c for c in np.unique(labels) if (labels == c).sum() >= 2]
    means = {c: unit[labels == c].mean(0) for c in classes}
    middle = np.mean(list(means.values()), 0)
    between = np.mean([((m - middle) ** 2).sum() for m in means.values()])
    within = np.mean([((unit[labels == c] - means[c]) ** 2).sum(1).mean() for c in classes])
    return float(between / (within + 1e-6))


def test_fisher_ratio_equals_the_sum_over_samples_and_does_not_see_scale():
    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(40, 6)) + 1, draw.integers(0, 7, 40)
    labels[0] = 9  # a class of one
    given = torch.tensor(features, dtype=torch.float32)
    value = fisher_ratio(given, torch.tensor(labels), 12)
    assert value == pytest.approx(by_hand(features, labels), rel=1e-4)
    assert fisher_ratio(1000 * given, torch.tensor(labels), 12) == pytest.approx(float(value), rel=1e-4)


def test_fisher_ratio_of_equal_means_is_zero_and_of_parted_classes_large():
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    assert fisher_ratio(pair.repeat(2, 1), torch.tensor([0, 0, 1, 1]), 2) == 0
    assert fisher_ratio(torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1]), 2) > 1e4


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 1, 2]])
def test_fisher_ratio_without_two_classes_of_two_is_zero_with_a_zero_gradient(labels):
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = fisher_ratio(features, torch.tensor(labels), 4)
    value.backward()
    assert value == 0 and torch.equal(features.grad, torch.zeros(4, 5))
