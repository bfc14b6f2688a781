"""MAP without source data: what it may not see, and what it does with what is left."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from kit import Small, quiet
from torch import nn

from freehold.authorization.map import MAP
from freehold.data import Domains, Split
from freehold.errors import ProblemsError
from freehold.models.zoo import load_model

TINY = {"steps": 6, "batch_size": 8, "synthesis_steps": 2, "synthetic": 40, "lr": 3e-3}


class Untouchable:
    """Raises on any use."""

    def __getattr__(self, name):
        raise AssertionError(f"a split was touched: {name}")

    def __len__(self):
        raise AssertionError("a split was touched: len")


def closed(domain):
    """``domain`` with splits that nobody may look at."""
    shut = dataclasses.replace(domain)
    for name in ("train", "val", "test"):
        object.__setattr__(shut, name, Untouchable())
    return shut


def relabelled(domain):
    generator = torch.Generator().manual_seed(0)
    splits = {
        name: Split(split.images, split.labels[torch.randperm(len(split), generator=generator)])
        for name, split in domain.splits().items()
    }
    return domain.with_splits(splits)


def protect(model, domains, variant="source-free", run=None, **fields):
    return MAP(variant=variant, **{**TINY, **fields}).protect(model, domains, run=run or quiet())


def test_the_guarded_domain_really_raises(domains):
    with pytest.raises(AssertionError, match="touched"):
        len(closed(domains.authorized).train)


def test_source_free_never_touches_the_source(trained, domains):
    given = Domains(closed(domains.authorized), domains.unauthorized, domains.input)
    result = protect(trained, given)
    assert result.record["seen"] == [domains.unauthorized[0].name]


def test_data_free_touches_nothing(trained, domains):
    given = Domains(closed(domains.authorized), [closed(domains.unauthorized[0])], domains.input)
    assert protect(trained, given, "data-free").record["seen"] == []


@pytest.mark.parametrize("variant", ["source-free", "data-free"])
def test_no_domain_but_the_needed_has_to_be_there(trained, domains, variant):
    target = domains.unauthorized if variant == "source-free" else ()
    assert not MAP(variant=variant).problems(trained, Domains(None, target, domains.input))


def test_the_targets_labels_do_not_matter(trained, domains):
    shuffled = Domains(None, [relabelled(domains.unauthorized[0])], domains.input)
    plain = Domains(None, domains.unauthorized, domains.input)
    hashes = [protect(trained, d, steps=30).record["shipped_hash"] for d in (plain, shuffled)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("variant", ["source-free", "data-free"])
def test_weights_are_cut_and_the_result_says_what_is_unknown(trained, domains, variant):
    result = protect(trained, domains, variant, steps=30)
    cut = sum(n - k for k, n in result.kept().values())
    assert cut > 0
    assert any("unknown" in note for note in result.record["notes"])
    assert set(result.record["histories"]) == {"synthesis", "map"}
    (images,) = result.images.values()
    assert images.dtype == torch.uint8 and images.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize("variant", ["source-free", "data-free"])
def test_interrupted_and_resumed_equals_uninterrupted(trained, domains, variant, tmp_path, monkeypatch):
    monkeypatch.setenv("FREEHOLD_CACHE", str(tmp_path / "a"))
    whole = protect(trained, domains, variant).record["shipped_hash"]
    calls = {"left": 0}

    def crash(model, args):
        if not isinstance(model, Small) or len(args[0]) == 2:  # two images are a dry run
            return
        calls["left"] -= 1
        if calls["left"] == 0:
            raise RuntimeError("crash inside")

    for left in (2, 9):  # while the images are made, and while the mask is learned
        monkeypatch.setenv("FREEHOLD_CACHE", str(tmp_path / str(left)))
        run = quiet(directory=tmp_path / f"run{left}", checkpoint_seconds=0)
        calls["left"] = left
        handle = nn.modules.module.register_module_forward_pre_hook(crash)
        try:
            with pytest.raises(RuntimeError, match="crash inside"):
                protect(trained, domains, variant, run)
        finally:
            handle.remove()
        assert protect(trained, domains, variant, run).record["shipped_hash"] == whole


def test_what_a_variant_takes_by_default_and_what_is_given():
    assert MAP().steps == 800 and MAP(variant="source-free").steps < 800
    assert MAP(variant="data-free", steps=7).steps == 7


def test_untrained_statistics_are_a_problem_before_work(domains):
    with pytest.raises(ProblemsError, match="batch norm statistics that no training has touched"):
        protect(Small(), domains)


def test_fewer_target_images_than_a_batch_are_a_problem(trained, domains):
    with pytest.raises(ProblemsError, match="target images for batches of"):
        protect(trained, domains, batch_size=60_000)


@pytest.mark.parametrize("variant", ["source-free", "data-free"])
def test_a_network_without_batch_norm_works_and_says_so(domains, variant):
    model = load_model("timm:test_vit", 10, img_size=32)
    result = protect(model, domains, variant, steps=2)
    assert any("no batch norm statistics" in note for note in result.record["notes"])
