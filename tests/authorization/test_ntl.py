from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from freehold.authorization.ntl import NTL, ntl_loss
from freehold.training.losses import label_divergence, mmd


def batch(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 16, 10, generator=generator) * 2
    features = torch.randn(2, 16, 40, generator=generator)
    labels = torch.randint(0, 10, (2, 16), generator=generator)
    return logits, features, labels


def divergences(logits, labels, divisor):
    onehot = F.one_hot(labels, 10).float()
    return [
        float(F.kl_div(z.log_softmax(1), y, reduction="sum")) / divisor
        for z, y in zip(logits, onehot, strict=True)
    ]


def test_paper_form_on_a_fixed_batch():
    logits, features, labels = batch()
    source, target = divergences(logits, labels, 16)
    distance = float(mmd(*features))
    expected = source - min(1.0, 0.1 * target * min(1.0, 0.1 * distance))
    parts = [label_divergence(z, y, "batchmean") for z, y in zip(logits, labels, strict=True)]
    assert float(ntl_loss(*parts, mmd(*features), form="paper")) == pytest.approx(expected, rel=1e-5)


def test_reference_form_on_a_fixed_batch():
    logits, features, labels = batch()
    source, target = divergences(logits, labels, 16 * 10)
    distance = float(mmd(*features))
    expected = source - min(1.0, 0.1 * target) * min(1.0, 0.1 * distance)
    parts = [label_divergence(z, y, "mean") for z, y in zip(logits, labels, strict=True)]
    assert float(ntl_loss(*parts, mmd(*features), form="reference")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("form", "target", "distance", "term"),
    [
        ("paper", 5.0, 4.0, 0.1 * 5 * 0.4),
        ("paper", 5.0, 30.0, 0.1 * 5 * 1.0),  # distance clipped
        ("paper", 50.0, 30.0, 1.0),  # product clipped
        ("reference", 5.0, 4.0, 0.5 * 0.4),
        ("reference", 50.0, 4.0, 1.0 * 0.4),  # target factor clipped
        ("reference", 50.0, 30.0, 1.0),
    ],
)
def test_each_form_clips_where_it_says(form, target, distance, term):
    values = [torch.tensor(x) for x in (2.0, target, distance)]
    assert float(ntl_loss(*values, form=form)) == pytest.approx(2.0 - term)


def test_a_clipped_distance_gives_no_gradient_and_an_unclipped_one_pushes_apart():
    for distance, pushes in ((30.0, False), (3.0, True)):
        far = torch.tensor(distance, requires_grad=True)
        ntl_loss(torch.tensor(1.0), torch.tensor(2.0), far, form="reference").backward()
        assert (far.grad < 0) == pushes


@pytest.mark.parametrize("features", ["pooled", "stage"])
@pytest.mark.parametrize("form", ["paper", "reference"])
def test_all_settings_train(domains, form, features):
    from kit import Small, quiet

    method = NTL(loss_form=form, features=features, steps=3, batch_size=8)
    terms = method.protect(Small(), domains, run=quiet()).record["histories"]["ntl"]["terms"]
    assert set(terms) == {"loss", "source loss", "target loss", "distance"}
