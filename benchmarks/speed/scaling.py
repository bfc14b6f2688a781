"""How cost grows: with images, triggers, model size, keys, suspects, and MMD with its batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

import freehold as fh
from benchmarks.speed.growth import Growth
from benchmarks.speed.losses import BATCH
from benchmarks.speed.stepper import digits
from benchmarks.speed.verifiers import verifying
from freehold.data import InputSpec
from freehold.keys import Key
from freehold.models.norm_pairs import norm_pairs
from freehold.ownership.base import verify_all
from freehold.ownership.suspect import Suspect, suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.protection import Protection
from freehold.training.losses import mmd

LINEAR = 1.1  # largest exponent of what has to be linear
SMALL = InputSpec(size=16)


def chain(width: int) -> nn.Module:
    """A network whose weights grow with the square of its width."""
    layers: list[nn.Module] = []
    before = 3
    for channels, stride in ((width, 2), (width, 1), (2 * width, 2), (2 * width, 1)):
        layers += [nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)).eval()


def weights(width: int) -> float:
    return float(sum(p.numel() for p in chain(width).parameters()))


def one_pass(method: Callable[..., Protection], images: int) -> Callable[[], Any]:
    """``protect`` for one pass over so many images of the authorized domain."""
    given = digits()
    domain = given.authorized
    assert domain is not None
    rows = torch.arange(images) % len(domain.train)
    splits = {"train": domain.train.take(rows), "val": domain.val, "test": domain.test}
    few = fh.Domains(domain.with_splits(splits), given.unauthorized, SMALL)
    run = fh.Run(device="cpu", progress=False)
    return partial(method(steps=images // 48).protect, fh.load_model("convnet", 10), few, run=run)


def trigger_key(count: int, number: int = 0) -> Key:
    """As if a model had been marked with it."""
    method = TriggerSet(triggers=count)
    facts = {"input": SMALL.model_dump(mode="json"), "num_classes": 10}
    return Key(number.to_bytes(32, "big"), "speed").bound(method.name, method.model_dump(mode="json"), facts)


def questioned(triggers: int) -> Callable[[], Any]:
    return partial(verifying, fh.load_model("convnet", 10).eval(), trigger_key(triggers))


def asked(suspects: int, keys: int) -> Callable[[], Any]:
    """All pairs of them, judged together."""
    known = [trigger_key(50, number) for number in range(keys)]
    seen: list[Suspect] = [
        suspect(fh.load_model("convnet", 10, seed=seed).eval(), input=SMALL) for seed in range(suspects)
    ]
    return lambda: verify_all(
        [(s, k) for s in seen for k in known], commitments=[k.commitment for k in known]
    )


def read_by_passport(width: int) -> Callable[[], Any]:
    """Alignment and reading of all layers of a network of that width."""
    torch.manual_seed(0)
    model, method = chain(width), fh.Passport()
    pairs = norm_pairs(model, SMALL.example())
    learned = {
        f"reference.{p.layer}": model.get_parameter(f"{p.layer}.weight").detach().clone() for p in pairs
    }
    listed = [vars(pair) for pair in pairs]
    facts = {"input": SMALL.model_dump(mode="json"), "num_classes": 10, "layers": listed, "aligned": listed}
    key = Key(bytes(32), "speed").bound("passport", method.model_dump(mode="json"), facts, learned)
    return partial(verifying, model, key)


def protected(method: Callable[..., Protection], width: int) -> Callable[[], Any]:
    few = fh.Domains(digits().authorized, digits().unauthorized, SMALL)
    run = fh.Run(device="cpu", progress=False)
    return partial(method(steps=4).protect, chain(width), few, run=run)


def two_samples(features: int, batch: int) -> Callable[[], Any]:
    source, target = torch.randn(2, batch, features, generator=torch.Generator().manual_seed(0)).unbind()
    source.requires_grad_()
    return lambda: [torch.autograd.grad(mmd(source, target), source) for _ in range(10)]


IMAGES = (480, 960, 1920, 3840)  # of ten steps and more: all have ten validations
WIDTHS = (16, 32, 64, 128)
GROWTH = [
    Growth("map: protect, one pass over the images", IMAGES, partial(one_pass, fh.MAP), LINEAR),
    Growth("trigger-set: protect, one pass over the images", IMAGES, partial(one_pass, TriggerSet), LINEAR),
    Growth("trigger-set: verify, triggers", (50, 100, 200, 400, 800), questioned, LINEAR),
    Growth("several keys on one suspect", (1, 2, 4, 8, 16), partial(asked, 1), LINEAR),
    Growth("one key on several suspects", (1, 2, 4, 8, 16), lambda n: asked(n, 1), LINEAR),
    Growth("passport: verify, weights", WIDTHS, read_by_passport, size_of=weights),
    Growth("map: protect, weights", WIDTHS[:3], partial(protected, fh.MAP), LINEAR, size_of=weights),
    Growth("mmd: images in the batch", (64, 128, 256, 512), partial(two_samples, 256), 2.1),
    Growth("mmd: features", (1024, 2048, 4096, 8192, 16384), lambda d: two_samples(d, BATCH), LINEAR),
]
