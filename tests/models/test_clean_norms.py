from __future__ import annotations

import pytest
import torch
from kit import Small
from torch import nn

from freehold.models.clean_norms import clean_norms

CLEAN, FOREIGN = (torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(s)) for s in (0, 1))


def test_foreign_images_are_normalised_by_the_clean_batch_and_leave_no_trace():
    model, twin = Small().train(), Small().train()
    with clean_norms(model) as norms:
        kept = model(CLEAN)
        buffers = {k: v.clone() for k, v in model.state_dict().items()}
        norms.hold = True
        foreign = model(5 * FOREIGN + 3)
        assert all(torch.equal(v, buffers[k]) for k, v in model.state_dict().items())
    assert torch.equal(kept, twin(CLEAN))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    # a twin whose running statistics are exactly those of the clean batch, in evaluation mode
    exact = Small().train()
    for norm in (m for m in exact.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    exact(CLEAN)
    for norm, n in ((exact.features[1], 6 * 16 * 16), (exact.features[5], 6 * 4 * 4)):
        norm.running_var.mul_((n - 1) / n)
    assert torch.allclose(foreign, exact.eval()(5 * FOREIGN + 3), atol=1e-4)


def test_gradients_flow_through_held_norms():
    model = Small().train()
    with clean_norms(model) as norms:
        model(CLEAN)
        norms.hold = True
        model(FOREIGN).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_evaluation_mode_is_untouched_and_nothing_is_left_after_a_crash():
    model = Small().eval()
    expected = model(CLEAN)
    with pytest.raises(RuntimeError, match="stop"), clean_norms(model) as norms:
        assert torch.equal(model(CLEAN), expected)
        norms.hold = True
        assert torch.equal(model(CLEAN), expected)
        raise RuntimeError("stop")
    assert not any("forward" in vars(m) for m in model.modules())
