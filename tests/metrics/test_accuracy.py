from __future__ import annotations

import pytest
import torch
from torch import nn

from freehold.data import InputSpec, Split
from freehold.errors import ModelError
from freehold.metrics.accuracy import Accuracy, apply, predict, share_correct

SPEC = InputSpec(size=8, channels=1)


class Mean(nn.Module):
    """Class 1 for bright images."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.drop = nn.Dropout(0.9)

    def forward(self, images):
        mean = self.drop(images.mean((1, 2, 3))) * self.factor
        return torch.stack([-mean, mean], 1)


def split(n=20):
    images = (
        (torch.arange(n)[:, None, None, None] * 255 // (n - 1))
        .to(torch.uint8)
        .expand(-1, 1, 8, 8)
        .contiguous()
    )
    return Split(images, (torch.arange(n) >= n // 2).long())


def test_predictions_are_in_order_in_evaluation_mode_and_the_mode_is_put_back():
    model = Mean().train()
    assert predict(model, split(), SPEC).tolist() == split().labels.tolist()
    assert model.training and model.drop.training
    assert share_correct(model, split(), SPEC) == 1.0


def test_limit_takes_the_first_and_batches_do_not_matter():
    assert len(predict(Mean(), split(), SPEC, limit=7)) == 7
    assert torch.allclose(apply(Mean(), split(), SPEC, batch_size=3), apply(Mean(), split(), SPEC), atol=1e-6)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_are_refused(factor):
    with pytest.raises(ModelError, match="NaN or infinity"):
        predict(Mean(factor), split(), SPEC)


def test_accuracy_carries_its_exact_interval():
    accuracy = Accuracy.of(9, 10)
    assert accuracy.value == 0.9 and accuracy.low < 0.6 and accuracy.high > 0.99
