from __future__ import annotations

import pytest
import torch

from freehold.models.alignment import align

RNG = torch.Generator().manual_seed(0)


def rewritten(weight: torch.Tensor, *, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same layer with its channels elsewhere, of other signs and scales."""
    outputs, inputs = (torch.randperm(n, generator=RNG) for n in weight.shape[:2])
    signs = 2 * torch.randint(2, (len(weight),), generator=RNG) - 1
    factors = [(scale * torch.randn(n, generator=RNG)).exp() for n in weight.shape[:2]]
    found = weight[outputs][:, inputs] * (signs * factors[0]).view(-1, *[1] * (weight.dim() - 1))
    return found * factors[1].view(1, -1, *[1] * (weight.dim() - 2)), outputs, inputs


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (32, 16, 3, 3), (24, 40), (16, 1, 3, 3), (20, 30, 5)])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_was_rewritten_comes_back(shape, noise):
    reference = torch.randn(shape, generator=RNG)
    marked = reference + noise * torch.randn(shape, generator=RNG)
    there, outputs, inputs = rewritten(marked)
    # A noisy linear layer alone says too little: it is given the order of the layer before it.
    earlier = [inputs.argsort()] if noise and len(shape) == 2 else []
    found = align(there, reference, earlier)
    assert torch.equal(outputs[found.outputs], torch.arange(shape[0]))
    assert torch.equal(inputs[found.inputs], torch.arange(shape[1]))
    assert torch.cosine_similarity(found.weight.flatten(1), marked.double().flatten(1)).min() > 0.99
    assert found.likeness > (0.85 if noise else 0.999)


def test_the_order_of_an_earlier_layer_helps_where_a_layer_alone_says_little():
    reference = torch.randn(64, 48, generator=RNG)
    marked = reference + 0.5 * torch.randn(64, 48, generator=RNG)
    there, outputs, inputs = rewritten(marked)
    found = align(there, reference, [torch.randperm(48, generator=RNG), inputs.argsort(), torch.arange(5)])
    assert torch.equal(outputs[found.outputs], torch.arange(64))


def test_an_unrelated_layer_resembles_nothing_and_zeros_do_no_harm():
    reference = torch.randn(32, 16, 3, 3, generator=RNG)
    assert align(torch.randn(32, 16, 3, 3, generator=RNG), reference).likeness < 0.5
    dead = reference.clone()
    dead[3], dead[:, 5] = 0, 0
    found = align(dead, reference)
    assert found.weight.isfinite().all() and found.likeness > 0.85
    assert align(torch.zeros_like(reference), reference).weight.abs().max() == 0
