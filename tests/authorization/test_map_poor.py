"""MAP without source data: what it may not see, and what it does with what is left."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from kit import Small, quiet
from torch import nn
from torch.nn import functional as F

from freehold.authorization.map import MAP
from freehold.authorization.masking import LayerInputs
from freehold.authorization.surrogate import Guesses, nearest_gap, noisy_disagreement, recognised
from freehold.data import Domains, InputSpec, Split
from freehold.data.batches import Batch, fit_images
from freehold.data.sources import load_domain
from freehold.errors import ProblemsError
from freehold.models.zoo import load_model
from freehold.training import Trainer

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
    figures = {"figures"} if variant == "data-free" else set()
    fits = {name.partition("-")[0] for name in result.record["histories"]}
    assert fits == {"synthesis", "map"} | figures
    assert set(result.images) == {"synthetic source"} | figures
    for images in result.images.values():
        assert images.dtype == torch.uint8 and images.shape[2:] == (32, 32)


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


def test_a_target_that_the_model_cannot_tell_from_its_source_is_called_dangerous(trained, domains):
    same = Domains(None, [domains.authorized], domains.input)
    far = Domains(None, [load_domain("digits | invert")], domains.input)
    assert nearest_gap(trained, same.unauthorized[0].train, domains.input) < 0.02
    assert nearest_gap(trained, far.unauthorized[0].train, domains.input) > 0.02
    assert "sees the target as if" in " ".join(protect(trained, same, steps=1).record["notes"])
    assert "sees the target as if" not in " ".join(protect(trained, far, steps=1).record["notes"])


def test_noise_shows_what_clean_synthetic_images_hide(trained, domains):
    images = fit_images(domains.authorized.train.images[:200], domains.input)
    split = Split(images, torch.zeros(200, dtype=torch.int64))
    cut = copy.deepcopy(trained)
    cut.features[4].weight.data[:, ::2] = 0
    assert noisy_disagreement(trained, trained, split, domains.input, 0) == 0
    assert noisy_disagreement(trained, cut, split, domains.input, 0) > 0.2


def test_what_goes_into_the_masked_layers_is_kept_in_order(trained):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with LayerInputs(trained, ["features.0", "features.4", "head"]) as inputs:
        trained.eval()(images)
        middle, last = inputs.take()
    assert torch.equal(middle, trained.features[:4](images))
    assert torch.equal(last, trained.features(images).mean((2, 3)))
    assert not any(m._forward_pre_hooks for m in trained.modules())


def test_at_the_start_nothing_is_astray(trained, domains):
    batch = Batch(torch.randn(6, 3, 32, 32), torch.arange(6), torch.arange(6))
    trainer = Trainer(quiet())
    with Guesses(trained.eval(), ["features.0", "features.4", "head"], domains.input, trainer) as guesses:
        astray, drift, lost = guesses.compare(trained, {"source": batch, "target": batch}, 0, bound=2.5)
    assert abs(astray.item()) < 1e-6 and drift.item() == 0
    expected = F.cross_entropy(trained(batch.images), batch.labels, reduction="none").clamp_max(2.5).mean()
    assert lost.item() == pytest.approx(expected.item(), rel=1e-5)


def test_figures_that_the_model_knows_well_are_not_what_it_is_closed_to(trained, domains, monkeypatch):
    from freehold.authorization import map as method

    empty = Domains(None, (), domains.input)
    fields = {"variant": "data-free", "steps": 2, "batch_size": 8, "synthesis_steps": 2, "synthetic": 20}
    for share, familiar in ((0.2, False), (0.9, True)):
        monkeypatch.setattr(method, "recognised", lambda *_, share=share: share)
        notes = method.MAP(**fields).protect(trained, empty, run=quiet()).record["notes"]
        assert (method.map_card.FAMILIAR in notes) == familiar


def test_recognised_counts_the_classes_seen_in_painted_figures(trained):
    spec = InputSpec(size=32)
    images = torch.zeros(60, 1, 32, 32, dtype=torch.uint8)
    images[:, :, 8:24, 14:18] = 255
    share = recognised(trained, Split(images, torch.arange(60) % 10), spec, seed=0)
    assert 0 <= share <= 0.6 and share * 60 == pytest.approx(round(share * 60), abs=1e-4)
    assert share == recognised(trained, Split(images, torch.arange(60) % 10), spec, seed=0)
