from __future__ import annotations

import pytest
import torch
from kit import quiet

from freehold.attacks.permute import Permute
from freehold.data import InputSpec
from freehold.data.sources import load_domain
from freehold.models.zoo import load_model

SPEC = InputSpec(size=32)


@pytest.mark.parametrize("uri", ["convnet", "resnet20"])
@pytest.mark.parametrize("fields", [{"flip": False}, {"permute": False}, {"scale": 1.0}])
def test_outputs_stay_and_weights_do_not(uri, fields):
    model, images = load_model(uri, 10), torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(3):  # running statistics that are not those of a new network
        model.train()(images)
    domain = load_domain("digits", limit=40)
    thief = Permute(**fields).run(model, domain, SPEC, run=quiet()).model
    with torch.no_grad():
        answers, expected = thief.eval()(images), model.eval()(images)
    assert torch.allclose(answers, expected, atol=1e-3 * float(expected.std()) + 1e-4)
    first, *_, last = (n for n, p in model.named_parameters() if p.dim() == 4)
    moved = [not torch.equal(thief.get_parameter(n), model.get_parameter(n)) for n in (first, last)]
    assert any(moved)
