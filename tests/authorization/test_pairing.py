"""NTL and CUTI without a target: the source's neighbours in its place."""

from __future__ import annotations

import pytest
import torch
from kit import quiet

from freehold.authorization.cuti import CUTI
from freehold.authorization.ntl import NTL
from freehold.authorization.pairing import Looks
from freehold.data import Domains
from freehold.data.batches import Batch
from freehold.metrics.accuracy import predict
from freehold.training import Trainer

TINY = {"steps": 3, "batch_size": 8, "target": "neighbours"}


@pytest.mark.parametrize("method", [NTL, CUTI])
def test_no_target_is_needed_nor_seen(trained, domains, method):
    alone = Domains(domains.authorized, (), domains.input)
    results = [method(**TINY).protect(trained, d, run=quiet()).record for d in (alone, domains)]
    assert results[0]["shipped_hash"] == results[1]["shipped_hash"]
    assert results[1]["seen"] == [domains.authorized.name]
    assert set(results[0]["histories"][method.name]["validation"][0]) == {"step", "score", "source", "target"}


@pytest.mark.parametrize("method", [NTL, CUTI])
def test_interrupted_and_resumed_equals_uninterrupted(trained, domains, method, tmp_path):
    whole = method(**TINY).protect(trained, domains, run=quiet()).record["shipped_hash"]
    calls = {"left": 4}

    def crash(model, args):
        if isinstance(model, type(trained)) and model.training:
            calls["left"] -= 1
            if calls["left"] == 0:
                raise RuntimeError("crash inside")

    run = quiet(directory=tmp_path, checkpoint_seconds=0)
    calls["left"] = 3
    handle = torch.nn.modules.module.register_module_forward_pre_hook(crash)
    try:
        with pytest.raises(RuntimeError, match="crash inside"):
            method(**TINY).protect(trained, domains, run=run)
    finally:
        handle.remove()
    assert list(tmp_path.glob("*.state"))
    assert method(**TINY).protect(trained, domains, run=run).record["shipped_hash"] == whole


def test_the_looks_of_validation_images_show_what_the_model_still_sees(trained, domains):
    looks = Looks(trained, domains.input, Trainer(quiet()))
    styled = looks.restyled(domains.authorized.val)
    assert styled.images.dtype == torch.uint8 and len(styled) == len(domains.authorized.val)
    assert (predict(trained, styled, domains.input) == styled.labels).float().mean() > 0.95


def test_looks_change_from_step_to_step_and_are_a_function_of_it(trained, domains):
    looks = Looks(trained, domains.input, Trainer(quiet()))
    seen = []

    def objective(forward, batches, step):
        seen.append(batches["target"].images)
        return {}

    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = {"source": Batch(images, torch.arange(8), torch.arange(8))}
    for step in (0, 1, 0):
        looks.beside(objective)(trained, batch, step)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
