"""Train, protect, evaluate from one configuration: end to end, again, interrupted, damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from freehold.artifacts import verify_run
from freehold.config import Config, from_json
from freehold.data.domain import Domains
from freehold.data.sources import load_domain
from freehold.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    MissingInputError,
    ModelError,
    OutputError,
    ProblemsError,
    TrainingError,
    UsageError,
)
from freehold.jobs import evaluate, protect, train
from freehold.metrics.claims import Claims, Verdict
from freehold.metrics.transfer import evaluate as measure
from freehold.models.checkpoint import apply_mask_file, load_checkpoint, state_hash
from freehold.plugin import find

DATA = {"authorized": "digits-m", "unauthorized": ["digits"], "image_size": 16, "limit": 40}
TINY = {"threads": 1, "steps": 3, "batch_size": 8}
CUTTING = {"name": "map", "steps": 2, "batch_size": 8, "lr": 0.01}  # large enough to cut weights at once


def tiny(**changes) -> Config:
    """Three steps of a small network; sections given are merged."""
    data = {"model": {"uri": "convnet"}, "data": DATA, "train": TINY}
    for section, keys in changes.items():
        data[section] = {**data.get(section, {}), **keys} if isinstance(keys, dict) else keys
    return from_json(data)


def tiny_map(source: Path, **changes) -> Config:
    return tiny(**{"model": {"uri": "convnet", "weights": str(source)}, "method": CUTTING, **changes})


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return train(tiny(), tmp_path_factory.mktemp("runs") / "source").directory


@pytest.fixture(scope="module")
def bound(source) -> Path:
    return protect(tiny_map(source), source.with_name("bound")).directory


def hash_of(run: Path) -> str:
    return state_hash(load_file(run / "model.safetensors"))


def test_train_publishes_a_verified_run(source):
    run = verify_run(source)
    written = "model.safetensors recipe.json metrics.json run.json config.toml log.jsonl MANIFEST.json"
    assert {p.name for p in source.iterdir()} == set(written.split())
    metrics = json.loads((source / "metrics.json").read_text())
    model, recipe = load_checkpoint(source)
    domain = load_domain("digits-m", image_size=16, limit=40)
    images = domain.test.images.float() / 127.5 - 1
    with torch.inference_mode():
        right = int((model(images).argmax(1) == domain.test.labels).sum())
    assert metrics["accuracies"]["digits-m"]["correct"] == right
    assert list(metrics["accuracies"]) == ["digits-m", "digits"]
    assert run["state_hash"] == state_hash(model)
    assert run["status"] == "finished"
    assert len(metrics["histories"]["train"]["steps"]) == 3
    assert recipe.input.size == (16, 16)


def test_a_finished_run_is_reported_and_not_repeated(source, monkeypatch):
    before = (source / "MANIFEST.json").read_bytes()
    monkeypatch.setattr("freehold.jobs.source.train_classifier", None)
    report = train(tiny(), source)
    assert report.already
    assert report.accuracies["digits"].n == 40
    assert (source / "MANIFEST.json").read_bytes() == before
    with pytest.raises(OutputError, match=r"train\.lr is 0\.003 there and 0\.1 here"):
        train(tiny(train={"lr": 0.1}), source)


def test_the_protected_run_holds_no_original_weights(source, bound):
    original, shipped = load_file(source / "model.safetensors"), load_file(bound / "model.safetensors")
    run = verify_run(bound)
    assert run["record"]["source_hash"] == state_hash(original)
    assert run["record"]["shipped_hash"] == state_hash(shipped)
    assert "histories" not in run["record"]
    assert {p.suffix for p in bound.iterdir()} == {".safetensors", ".json", ".toml", ".jsonl", ".html"}
    rebuilt = apply_mask_file(bound / "mask.safetensors", original)
    assert state_hash(rebuilt) == state_hash(shipped)


def test_what_is_reported_is_what_the_shipped_model_does(source, bound):
    here, there = (load_domain(uri, image_size=16, limit=40) for uri in ("digits-m", "digits"))
    shipped, recipe = load_checkpoint(bound)
    again = measure(load_checkpoint(source)[0], shipped, Domains(here, [there], recipe.input))
    metrics = json.loads((bound / "metrics.json").read_text())
    assert metrics["evaluation"] == json.loads(json.dumps(again.to_json()))
    assert len(metrics["summary"]) == 3
    page = (bound / "page.html").read_text()
    for sentence in metrics["summary"]:
        assert sentence in page


def test_a_finished_protection_is_reported_with_the_claims_of_today(source, bound):
    report = protect(tiny_map(source, claims={"max_target_accuracy": 0.5}), bound)
    assert report.already
    assert report.verdict is not Verdict.HOLDS
    assert protect(tiny_map(source, claims={"max_target_accuracy": 100}), bound).verdict is Verdict.HOLDS


def test_evaluate_measures_the_same_again_and_more(source, bound, tmp_path):
    report = evaluate(bound)
    metrics = json.loads((bound / "metrics.json").read_text())
    assert json.loads(json.dumps(report.evaluation.to_json())) == metrics["evaluation"]
    more = evaluate(
        bound, on=["digits | invert"], page=tmp_path / "p.html", claims=Claims(max_source_drop=100)
    )
    assert [d.name for d in more.evaluation.domains][:2] == ["digits-m", "digits"]
    assert len(more.evaluation.domains) == 3
    assert "invert" in (tmp_path / "p.html").read_text()
    assert more.verdict is Verdict.HOLDS
    verify_run(bound)


def test_evaluate_wants_the_very_original(source, bound, tmp_path):
    run = shutil.copytree(bound, tmp_path / "bound")
    with pytest.raises(UsageError, match="alter it"):
        evaluate(run, page=run / "again.html")
    with pytest.raises(UsageError, match="no protected model"):
        evaluate(source)
    weights = shutil.copy(source / "model.safetensors", tmp_path / "w.safetensors")
    assert evaluate(run, original=weights).evaluation.domains[0].name == "digits-m"
    with pytest.raises(ArtifactError, match=r"not the model that was protected.*--original"):
        evaluate(run, original=bound / "model.safetensors")
    with pytest.raises(MissingInputError, match=r"original model is gone.*--original"):
        evaluate(run, original=tmp_path / "gone")
    (run / "recipe.json").write_bytes((run / "recipe.json").read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=r"recipe\.json"):
        evaluate(run)


def test_a_moved_original_is_missed_with_a_hint(source, tmp_path):
    moved = shutil.copytree(source, tmp_path / "source")
    run = protect(tiny_map(moved), tmp_path / "run").directory
    shutil.rmtree(moved)
    with pytest.raises(MissingInputError, match="--original"):
        evaluate(run)
    assert evaluate(run, original=source).verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": {"authorized": None}}, ConfigError, r"data\.authorized"),
        ({"data": {"authorized": "digit"}}, UsageError, r"data\.authorized: uri.*digits"),
        ({"data": {"unauthorized": ["npz:no.npz"]}}, MissingInputError, r"data\.unauthorized\.0.*no\.npz"),
        ({"data": {"unauthorized": ["digits-m"]}}, DataError, "digits-m"),
        ({"data": {"unauthorized": ["digits | rotat=3"]}}, UsageError, "rotate"),
        ({"model": {"uri": "convnett"}}, UsageError, "convnet"),
        (
            {"model": {"uri": None, "weights": "x.safetensors"}},
            MissingInputError,
            r"model\.weights.*x\.safetensors",
        ),
        ({"model": {"options": {"depth": 3}}}, UsageError, "options"),
        ({"train": {"device": "cuda:7"}}, UsageError, "device"),
        ({"train": {"precision": "fp16", "device": "cpu"}}, UsageError, "precision"),
    ],
)
def test_faults_of_training_leave_nothing_behind(tmp_path, changes, error, said):
    data = tiny().to_json()
    for section, keys in changes.items():
        data[section] = {k: v for k, v in {**data[section], **keys}.items() if v is not None}
    with pytest.raises(error, match=said):
        train(from_json(data), tmp_path / "a")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"method": None}, ConfigError, r"method\.name"),
        ({"model": {"uri": "convnet"}}, ConfigError, r"model\.weights.*freehold train"),
        ({"model": {"uri": "vgg11"}}, ConfigError, r"model\.uri.*'vgg11' here, 'convnet' in"),
        ({"data": {"image_size": 32}}, ConfigError, r"data\.image_size.*\(16, 16\)"),
        ({"data": {"unauthorized": []}}, ProblemsError, "unauthorized"),
        ({"data": {"authorized": None}}, ProblemsError, "authorized"),
    ],
)
def test_faults_of_protecting_leave_nothing_behind(source, tmp_path, changes, error, said):
    data = tiny_map(source).to_json()
    for section, keys in changes.items():
        if section == "model" and keys == {"uri": "convnet"}:
            data["model"] = keys
        elif keys is None:
            del data[section]
        else:
            data[section] = {k: v for k, v in {**data[section], **keys}.items() if v is not None}
    with pytest.raises(error, match=said):
        protect(from_json(data), tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_weights_that_do_not_fit_or_are_cut_off(source, tmp_path):
    whole = (source / "model.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[:-100])
    with pytest.raises(ArtifactError, match=r"cut\.safetensors"):
        train(tiny(model={"weights": str(cut)}), tmp_path / "a")
    cut.write_bytes(whole)
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        train(tiny(model={"uri": "vgg11", "weights": str(cut)}), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"model\.uri"):
        train(from_json({"model": {"weights": str(cut)}, "data": DATA, "train": TINY}), tmp_path / "a")
    assert {p.name for p in tmp_path.iterdir()} == {"cut.safetensors"}
    on = train(tiny(model={"weights": str(cut)}), tmp_path / "a").directory
    assert hash_of(on) != hash_of(source)


OURS = """
import torch
from torch import nn

class Net(nn.Module):
    broken_at = -1

    def __init__(self, num_classes):
        super().__init__()
        self.calls = 0
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.LazyLinear(num_classes))
        self.eval()(torch.zeros(1, 3, 16, 16))

    def forward(self, images):
        self.calls += self.training
        return self.head(self.features(images)) / (self.calls != self.broken_at)

class Broken(Net):
    broken_at = 3
"""


@pytest.fixture
def ours(tmp_path, monkeypatch) -> Path:
    """A folder for runs; beside it, the owner's own code."""
    (tmp_path / "ours.py").write_text(OURS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ours", raising=False)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_a_factory_named_by_a_run_is_run_only_if_the_owner_says_so(ours):
    source = train(tiny(model={"uri": "ours:Net"}), ours / "source").directory
    silent = tiny_map(source).to_json()
    del silent["model"]["uri"]
    with pytest.raises(ConfigError, match=r"model\.uri.*not run just because"):
        protect(from_json(silent), ours / "bound")
    run = protect(
        tiny_map(source, model={"uri": "ours:Net", "weights": str(source)}), ours / "bound"
    ).directory
    with pytest.raises(ConfigError, match="not run just because"):
        evaluate(run)
    assert evaluate(run, uri="ours:Net").directory == run


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(ours):
    config = tiny(model={"uri": "ours:Broken"}, train={"steps": 9})
    with pytest.raises(TrainingError, match=r"\.a\.partial/train\.last-good\.safetensors"):
        train(config, ours / "a")
    assert {p.name for p in ours.iterdir()} == {".a.partial"}
    kept = load_file(ours / ".a.partial" / "train.last-good.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())


def test_killed_at_any_moment_it_ends_with_the_same_weights(ours):
    settings = {"steps": 40, "checkpoint_seconds": 0, "evaluate_every": 7}
    config = tiny(model={"uri": "ours:Net"}, train=settings)
    whole = hash_of(train(config, ours / "whole").directory)
    (ours.parent / "c.toml").write_text(config.to_toml())
    command = [
        sys.executable,
        "-m",
        "freehold",
        "train",
        "--config",
        str(ours.parent / "c.toml"),
        "--out",
        str(ours / "cut"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    state = ours / ".cut.partial" / "train.state"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not state.exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.communicate()
    assert {p.name for p in ours.iterdir()} == {"whole", ".cut.partial", ".cut.lock"}
    assert 0 < torch.load(io.BytesIO(state.read_bytes()[32:]), weights_only=True)["step"] < 40
    assert hash_of(train(config, ours / "cut").directory) == whole
    assert {p.name for p in ours.iterdir()} == {"whole", "cut"}


@pytest.fixture
def foreign(tmp_path) -> Path:
    """A domain of three classes that the model does not know, as a file."""
    import numpy as np

    digits, rng = load_domain("digits", image_size=16), np.random.default_rng(0)
    images = digits.train.images[:240].permute(0, 2, 3, 1).numpy()
    labels = rng.integers(0, 3, 240)
    path = tmp_path / "foreign.npz"
    np.savez(
        path, train_images=images[:200], train_labels=labels[:200], test_images=images[200:],
        test_labels=labels[200:],
    )  # fmt: skip
    return path


def test_an_encoder_gets_a_head_and_is_closed_to_a_domain_of_other_classes(source, foreign, tmp_path):
    encoder = tmp_path / "encoder.safetensors"
    trunk = {
        f"backbone.{k}": v for k, v in load_file(source / "model.safetensors").items() if "head" not in k
    }
    save_file(trunk, encoder)
    given = {"model": {"uri": "convnet", "encoder": str(encoder)}, "data": {"image_size": 16}}
    data = {"authorized": "digits-m", "image_size": 16, "limit": 40}
    training = {"threads": 1, "steps": 3, "batch_size": 8, "head_only": True}
    probe = train(from_json({**given, "data": data, "train": training}), tmp_path / "probe", progress=False)
    trained = load_file(probe.directory / "model.safetensors")
    assert all(torch.equal(trained[k.removeprefix("backbone.")], v) for k, v in trunk.items())

    pruning = {"name": "ntp", "outer": 1, "inner": 2, "steps": 2, "batch_size": 8, "sparsity": 0.5}
    config = from_json(
        {
            "model": {"weights": str(probe.directory)},
            "data": {**data, "unauthorized": [{"uri": f"npz:{foreign}", "name": "foreign"}]},
            "train": {"threads": 1},
            "method": pruning,
        }
    )
    report = protect(config, tmp_path / "bound", progress=False)
    assert [d.name for d in report.evaluation.domains] == ["digits-m"]
    assert "foreign has other classes than the model" in report.summary[-1]
    assert "and retraining the others" in report.summary[0]
    assert not (report.directory / "mask.safetensors").exists()
    assert "residual" in (report.directory / "page.html").read_text()
    with pytest.raises(DataError, match="10 classes against 3"):
        protect(config.model_copy(update={"method": find("map")()}), tmp_path / "no", progress=False)
