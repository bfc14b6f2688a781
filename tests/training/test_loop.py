from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from freehold.data import Augment, InputSpec, Split
from freehold.errors import ArtifactError, OutputError, TrainingError, UsageError
from freehold.models.checkpoint import state_hash
from freehold.training import Loop, Run, Trainer, Validation

SPEC = InputSpec(size=8, channels=1)


def split(n: int = 40) -> Split:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images, (images.float().mean((1, 2, 3)) > 127.5).long())


def network(norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4) if norm else nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Dropout(0.1 * norm),
        ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def classify(forward, batches, step):
    return {"loss": F.cross_entropy(forward(batches["train"].images), batches["train"].labels)}


def fit(model, run, *, objective=classify, loop=None, **options):
    trainer = Trainer(run, "test")
    streams = {"train": trainer.batches(split(), SPEC, 8, "train", augment=Augment(shift=1))}
    loop = loop or Loop(steps=12, lr=0.05, schedule="one-cycle", optimizer="adamw", weight_decay=0.01)
    return trainer.fit(model, objective, streams, loop, name="fit", **options)


class Killed(Exception):
    pass


def killed_at(step_to_die):
    def objective(forward, batches, step):
        if step == step_to_die:
            raise Killed
        return classify(forward, batches, step)

    return objective


def quiet(**fields):
    return Run(**{"progress": False, "checkpoint_seconds": 0, **fields})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("step", [1, 7, 11])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, step, precision):
    whole = network()
    whole_history = fit(whole, quiet(seed=4, precision=precision))
    broken = network()
    run = quiet(seed=4, precision=precision, directory=tmp_path)
    with pytest.raises(Killed):
        fit(broken, run, objective=killed_at(step))
    resumed = network()
    history = fit(resumed, run)
    assert state_hash(resumed) == state_hash(whole)
    assert history.terms == whole_history.terms and history.images == whole_history.images


def test_a_finished_fit_is_not_repeated(tmp_path):
    first, second = network(), network()
    fit(first, quiet(directory=tmp_path))
    fit(second, quiet(directory=tmp_path), objective=killed_at(0))
    assert state_hash(first) == state_hash(second)


def test_state_of_another_configuration_is_refused(tmp_path):
    fit(network(), quiet(directory=tmp_path))
    with pytest.raises(OutputError, match="another configuration"):
        fit(network(), quiet(directory=tmp_path, seed=1))


def test_a_flipped_bit_in_the_state_is_noticed(tmp_path):
    fit(network(), quiet(directory=tmp_path))
    file = tmp_path / "fit.state"
    data = bytearray(file.read_bytes())
    for position in (0, 40, len(data) // 2, len(data) - 1):
        altered = bytearray(data)
        altered[position] ^= 1
        file.write_bytes(altered)
        with pytest.raises(ArtifactError, match="altered"):
            fit(network(), quiet(directory=tmp_path))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 5, 11])
def test_a_non_finite_loss_stops_within_a_step_and_keeps_the_last_good_state(tmp_path, poison, step):
    reached = []

    def poisoned(forward, batches, now):
        reached.append(now)
        terms = classify(forward, batches, now)
        return {"loss": terms["loss"] * poison} if now == step else terms

    model, reference = network(), network()
    with pytest.raises(TrainingError, match=f"step {step} "):
        fit(model, quiet(directory=tmp_path), objective=poisoned)
    assert max(reached) <= step + 1
    with pytest.raises(Killed):
        fit(reference, quiet(), objective=killed_at(step))
    reference.eval()
    # the reference went into step `step` without updating: its parameters are those before that step
    for name, tensor in reference.named_parameters():
        assert torch.equal(tensor, model.get_parameter(name)), name
    assert all(t.isfinite().all() for t in model.state_dict().values())
    assert (tmp_path / "fit.last-good.safetensors").exists()


def test_the_best_validated_state_is_kept_and_patience_stops():
    model = network()
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.1])
    states = []

    def validate():
        states.append(copy.deepcopy(model.state_dict()))
        assert not model.training
        return Validation(next(scores), {"accuracy": 0.5})

    loop = Loop(steps=50, lr=0.05, evaluate_every=2, patience=3)
    history = fit(model, quiet(), loop=loop, validate=validate)
    assert history.best_step == 4 and history.stopped_early and len(states) == 5
    assert all(torch.equal(model.state_dict()[k], v) for k, v in states[1].items())


def test_evaluation_mode_leaves_norm_statistics_and_frozen_parameters_alone():
    model = network()
    model[6].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    fit(model, quiet(), mode="eval")
    after = model.state_dict()
    assert torch.equal(before["1.running_mean"], after["1.running_mean"])
    assert torch.equal(before["6.weight"], after["6.weight"])
    assert not torch.equal(before["0.weight"], after["0.weight"])


def test_same_seed_same_weights_other_seed_other_weights():
    hashes = []
    for seed in (1, 1, 2):
        model = network(norm=False)
        fit(model, quiet(seed=seed))
        hashes.append(state_hash(model))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_model_is_not_left_wrapped_or_hooked():
    model = network()
    keys, forward = list(model.state_dict()), type(model).forward
    fit(model, quiet(precision="bf16"))
    assert list(model.state_dict()) == keys and type(model).forward is forward
    assert "forward" not in vars(model) and not model._forward_hooks


def test_precision_may_change_between_trainers():
    for precision in ("bf16", "fp32", "bf16"):
        assert fit(network(), quiet(precision=precision)).terms["loss"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"device": "cpu", "precision": "fp16"}, "precision"), ({"trackers": ("tensorboard",)}, "trackers")],
)
def test_impossible_settings_are_refused_before_work(fields, named):
    with pytest.raises(UsageError, match=named):
        Trainer(quiet(**fields))


def test_thread_count_can_be_set():
    before = torch.get_num_threads()
    try:
        assert fit(network(), quiet(threads=1)).threads == 1
    finally:
        torch.set_num_threads(before)


def test_trackers_write_what_the_history_holds(tmp_path):
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    fit(network(), quiet(directory=tmp_path, trackers=("tensorboard",)))
    assert list(tmp_path.rglob("events.out*"))


WORKER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from test_loop import Loop, fit, network, quiet
model = network(norm=False)
history = fit(model, quiet(device="cpu", threads=1), loop=Loop(steps=12, lr=0.01, optimizer="sgd"))
import torch.distributed as dist
if not dist.is_initialized() or dist.get_rank() == 0:
    flat = [round(float(x), 9) for p in model.parameters() for x in p.flatten()]
    print("RESULT " + json.dumps(flat))
if dist.is_initialized():
    dist.destroy_process_group()
"""


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    results = []
    for command in ([sys.executable], launch):
        done = subprocess.run(
            [*command, str(script), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        results.append(torch.tensor(json.loads(line.removeprefix("RESULT "))))
    assert torch.allclose(*results, rtol=1e-4, atol=1e-6)
