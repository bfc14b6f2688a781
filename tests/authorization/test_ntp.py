from __future__ import annotations

import copy

import pytest
import torch
from kit import Small, quiet
from torch import nn

from freehold.attacks.attacker import ATTACKERS
from freehold.authorization.ntp import NTP
from freehold.data import Domains, InputSpec
from freehold.data.batches import Batch
from freehold.data.domain import Split
from freehold.data.sources import load_domain
from freehold.errors import ProblemsError
from freehold.models.zeros import held_at_zero
from freehold.models.zoo import load_model

SHORT = {"steps": 4, "batch_size": 8, "outer": 2, "inner": 2}
CHANNEL = {**SHORT, "sparsity": 0.5}
WEIGHT = {**SHORT, "granularity": "weight", "sparsity": 0.9}
REFERENCE = {**SHORT, "mode": "reference"}


@pytest.fixture(scope="module")
def given() -> Domains:
    here, there = (load_domain(uri, limit=60) for uri in ("digits-m", "digits"))
    return Domains(here, [there], InputSpec(size=16))


def zeros(model: nn.Module, name: str) -> int:
    return int((model.get_parameter(name) == 0).sum())


def batch(seed: int, count: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=draw)
    return Batch(torch.randn(count, 3, 16, 16, generator=draw), labels, torch.arange(count))


@pytest.mark.parametrize("fields", [CHANNEL, WEIGHT])
def test_exactly_what_the_mask_says_is_zero_after_retraining(given, fields):
    protected = NTP(**fields).protect(Small(), given, run=quiet())
    for name, mask in protected.mask.items():
        weight = protected.model.get_parameter(name)
        assert not weight[~mask].any() and weight[mask].all()
    names = ("features.0.weight", "features.4.weight")
    total = sum(Small().get_parameter(n).numel() for n in names)
    cut = sum(zeros(protected.model, n) for n in names)
    if fields is WEIGHT:
        assert cut == total - round(0.1 * total)
    else:
        assert cut >= 0.5 * total


def test_cut_channels_have_dead_norms(given):
    protected = NTP(**CHANNEL).protect(Small(), given, run=quiet())
    dead = ~protected.mask["features.4.weight"].flatten(1).any(1)
    norm = protected.model.features[5]
    assert dead.any() and not norm.weight[dead].any() and not norm.bias[dead].any()
    assert norm.weight[~dead].all()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_held_weights_stay_zero_under_momentum_and_weight_decay(kind):
    weight = nn.Parameter(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))
    mask = torch.rand(20, 20, generator=torch.Generator().manual_seed(1)) < 0.3
    with held_at_zero({weight: mask}):
        optimizer = (
            torch.optim.SGD([weight], 0.1, momentum=0.9, weight_decay=0.1)
            if kind == "sgd"
            else torch.optim.AdamW([weight], 0.1, weight_decay=0.1)
        )
        for _ in range(5):
            (weight - 1).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not weight[~mask].any() and weight[mask].all()
    assert not weight._backward_hooks


@pytest.mark.parametrize("fields", [CHANNEL, WEIGHT])
def test_without_its_terms_it_is_plain_pruning_that_never_sees_the_target(given, fields):
    noise = torch.randint(0, 256, given.unauthorized[0].train.images.shape, dtype=torch.uint8)
    other = given.unauthorized[0].with_splits(
        {
            "train": Split(noise, given.unauthorized[0].train.labels),
            "val": given.unauthorized[0].val,
            "test": given.unauthorized[0].test,
        }
    )
    plain = NTP(**fields, alpha=0, fisher=0, rivalry=0)
    hashes = [
        plain.protect(Small(), Domains(given.authorized, [target], given.input), run=quiet()).record[
            "shipped_hash"
        ]
        for target in (given.unauthorized[0], other)
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("fields", "calls"),
    [(CHANNEL, 22), (CHANNEL, 36), (WEIGHT, 12), (WEIGHT, 26), (REFERENCE, 6), (REFERENCE, 12)],
)
def test_interrupted_in_either_fit_and_resumed_equals_uninterrupted(given, fields, calls, tmp_path):
    whole = NTP(**fields).protect(Small(), given, run=quiet()).record["shipped_hash"]
    run = quiet(directory=tmp_path, checkpoint_seconds=0)
    with pytest.raises(Exception, match="crash inside"):
        NTP(**fields).protect(Small(crash_after=calls), given, run=run)
    assert list(tmp_path.glob("*.state"))
    assert NTP(**fields).protect(Small(), given, run=run).record["shipped_hash"] == whole


def test_source_and_target_may_have_different_classes(given):
    digits = given.unauthorized[0]
    keep = {
        key: Split(split.images[split.labels < 4], split.labels[split.labels < 4])
        for key, split in digits.splits().items()
    }
    four = type(digits)("four", ("zero", "one", "two", "three"), **keep, record={})
    protected = NTP(**CHANNEL).protect(Small(), Domains(given.authorized, [four], given.input), run=quiet())
    assert protected.model.head.out_features == 10


def test_unlabelled_targets_take_the_models_own_answers(given):
    method = NTP(**CHANNEL, target_labels="predicted")
    shuffled = given.unauthorized[0]
    split = Split(shuffled.train.images, shuffled.train.labels.flip(0))
    other = shuffled.with_splits({**shuffled.splits(), "train": split})
    hashes = [
        method.protect(Small(), Domains(given.authorized, [d], given.input), run=quiet()).record[
            "shipped_hash"
        ]
        for d in (shuffled, other)
    ]
    assert hashes[0] == hashes[1]


def test_a_target_smaller_than_the_batch_is_passed_several_times(given):
    digits = given.unauthorized[0]
    few = digits.with_splits({**digits.splits(), "train": digits.train.take(torch.arange(20))})
    domains = Domains(given.authorized, [few], given.input)
    protected = NTP(**{**CHANNEL, "batch_size": 32}).protect(Small(), domains, run=quiet())
    assert all(torch.isfinite(p).all() for p in protected.model.parameters())


@pytest.mark.parametrize(
    ("fault", "where", "what"),
    [
        ("one-sample classes", "unauthorized", "fewer than two classes have two images"),
        ("empty layer", "sparsity", "all but empty a layer"),
        ("too few channels", "sparsity", "whole channels can make at most"),
        ("only a head", "model", "nothing to prune"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(given, fault, where, what):
    model: nn.Module = Small()
    domains, fields = given, CHANNEL
    if fault == "one-sample classes":
        digits = given.unauthorized[0]
        rows = torch.stack([(digits.train.labels == c).nonzero()[0, 0] for c in range(10)])
        single = digits.with_splits({**digits.splits(), "train": digits.train.take(rows)})
        domains = Domains(given.authorized, [single], given.input)
    elif fault == "empty layer":
        fields = {**WEIGHT, "sparsity": 0.99}
    elif fault == "too few channels":
        fields = {**CHANNEL, "sparsity": 0.997}
    else:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    with pytest.raises(ProblemsError, match=what) as caught:
        NTP(**fields).protect(model, domains, run=quiet())
    assert where in [p.where for p in caught.value.problems]


@pytest.mark.parametrize("sparsity", [0.0, 1.0, 1.5, -0.1])
def test_a_sparsity_outside_the_open_unit_interval_is_no_setting(sparsity):
    with pytest.raises(Exception, match="sparsity"):
        NTP(sparsity=sparsity)


def test_the_linear_layers_of_a_transformer_are_pruned(given):
    model = load_model("timm:test_vit", 10, img_size=16, patch_size=8)
    before = copy.deepcopy(model.state_dict())
    protected = NTP(**WEIGHT).protect(model, given, run=quiet())
    assert "blocks.0.attn.qkv.weight" in protected.mask and "head.weight" not in protected.mask
    kept, total = (sum(x) for x in zip(*protected.kept().values(), strict=True))
    assert kept == round(0.1 * total)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_residuals_and_the_gate_are_in_the_history(given):
    histories = NTP(**CHANNEL).protect(Small(), given, run=quiet()).record["histories"]
    assert {"primal residual", "dual residual", "rho", "gate", "gate open"} <= set(
        histories["ntp-admm"]["terms"]
    )
    assert "primal residual" not in histories["ntp"]["terms"]


def test_a_source_that_cannot_be_kept_is_said_to_be_lost(given, trained):
    domains = Domains(load_domain("digits"), given.unauthorized[:0] or [given.authorized], InputSpec())
    protected = NTP(**{**CHANNEL, "sparsity": 0.7, "steps": 1, "tolerance": 0.001}).protect(
        trained, domains, run=quiet()
    )
    assert any("points are lost" in note for note in protected.record["notes"])


def test_the_reference_mode_thresholds_every_parameter_of_the_trunk(given):
    protected = NTP(**REFERENCE).protect(Small(), given, run=quiet())
    assert zeros(protected.model, "features.1.bias") > 0  # norm layers too, as the published code does
    assert not zeros(protected.model, "head.weight")
    assert any("were asked for" in note for note in protected.record["notes"])


def test_whether_zeros_are_kept_or_regrow_or_are_drawn_anew_is_all_the_same_to_cut_channels(given):
    protected = NTP(**CHANNEL).protect(Small(), given, run=quiet())
    answers = []
    for name in ("zeros kept", "regrow", "re-initialised zeros"):
        model = ATTACKERS[name].prepare(protected.model, given.input, 10, 0).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(4):
            attack = batch(step)
            nn.functional.cross_entropy(model(attack.images), attack.labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        answers.append(model.eval()(batch(9).images))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], protected.model(batch(9).images))


def test_the_lock_changes_no_answer(given):
    plain, locked = (
        NTP(**CHANNEL, lock=lock).protect(Small(), given, run=quiet()).model for lock in (False, True)
    )
    images = batch(0).images
    assert torch.allclose(plain(images), locked(images), atol=1e-3)
    assert locked.features[0].weight.abs().max() > 1000 * plain.features[0].weight.abs().max()


class Tokens(nn.Module):
    """Classifies each position and averages the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).relu().flatten(2).transpose(1, 2)).mean(1)


def test_a_head_that_reads_more_than_one_vector_an_image_is_refused(given):
    with pytest.raises(ProblemsError, match="not one vector an image"):
        NTP(**WEIGHT).protect(Tokens(), given, run=quiet())
