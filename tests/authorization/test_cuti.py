from __future__ import annotations

import pytest
import torch

from freehold.authorization.cuti import isolate, isolation


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_isolation_follows_its_formula_sample_by_sample():
    features = torch.randn(6, 5, 4, 3, generator=generator(0))
    bound = 5**-0.5
    weights = torch.empty(2, 5, 5).uniform_(-bound, bound, generator=generator())
    result = isolate(features, generator())
    assert torch.equal(result[:3], features[:3])
    for i in range(3):
        source, target = features[i], features[3 + i]
        deviation = (source.var((1, 2), unbiased=True) + 1e-5).sqrt()
        scale, shift = torch.sigmoid(weights[0] @ deviation), torch.sigmoid(weights[1] @ source.mean((1, 2)))
        expected = target * scale[:, None, None] + shift[:, None, None]
        assert torch.allclose(result[3 + i], expected, atol=1e-6)


def test_tokens_are_treated_as_positions():
    maps = torch.randn(4, 6, 2, 2, generator=generator(1))
    tokens = maps.flatten(2).transpose(1, 2)
    expected = isolate(maps, generator()).flatten(2).transpose(1, 2)
    assert torch.allclose(isolate(tokens, generator()), expected, atol=1e-6)


def test_a_map_of_one_position_stays_finite_in_value_and_gradient():
    features = torch.randn(4, 6, 1, 1, requires_grad=True)
    result = isolate(features, generator())
    result.sum().backward()
    assert result.isfinite().all() and features.grad.isfinite().all()


def test_the_convolutions_are_new_at_every_call():
    features, draws = torch.randn(4, 6, 2, 2), generator()
    assert not torch.equal(isolate(features, draws), isolate(features, draws))


@pytest.mark.parametrize("crash", [False, True])
def test_hooks_last_as_long_as_the_block(crash):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    images = torch.randn(4, 3, 8, 8)
    plain = model(images)
    try:
        with isolation(model, ("0",), generator()):
            changed = model(images)
            if crash:
                raise KeyError
    except KeyError:
        pass
    assert torch.equal(model(images), plain) and not model[0]._forward_hooks
    assert torch.equal(changed[:2], plain[:2]) and not torch.equal(changed[2:], plain[2:])


def test_channels_at_the_end_give_the_same_result():
    maps = torch.randn(4, 6, 2, 2, generator=generator(2))
    expected = isolate(maps, generator()).permute(0, 2, 3, 1)
    assert torch.allclose(isolate(maps.permute(0, 2, 3, 1).contiguous(), generator()), expected, atol=1e-6)
