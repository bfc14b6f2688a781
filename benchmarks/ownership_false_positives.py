"""How often does a key match a model that has nothing to do with it? Random keys against unrelated models.

    python benchmarks/ownership_false_positives.py [--method trigger-set] [--keys 20000]

Every key is put to every model, and the rate of small p-values is compared with the size that the exact
test attains: matches are whole numbers, so at level 1e-2 it rejects more rarely than once in a hundred.
The count must lie in the 99.9 % band of Binomial(keys, attained size). Goes on where it stopped, writes
results/ownership/false-positives-METHOD.json and exits with 1 if a rate is outside its band or a key
matched at 1e-6. The data is looked for in FREEHOLD_DATA or ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import freehold as fh
from freehold.data.batches import normalise
from freehold.keys import Key
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.observation import Decision, Observation
from freehold.ownership.suspect import Suspect
from freehold.plugin import Access, find
from freehold.statistics import binomial_tail, matches_needed
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULTS, CACHE = HERE / "results" / "ownership", HERE / ".cache"
SPEC, CLASSES = fh.InputSpec(), 10
LEVELS, ALPHA, BAND = (1e-2, 1e-3), 1e-6, 0.999
CHUNK = 200  # keys whose triggers are drawn together


class Asked(Suspect):
    """Keeps the images that it is asked about, and answers nothing of worth."""

    def __init__(self) -> None:
        super().__init__("asked", SPEC, CLASSES, Access.LABELS, batch=1 << 20)
        self.images: list[Tensor] = []

    def _answer(self, images: Tensor) -> Tensor:
        self.images.append(images)
        return torch.zeros(len(images), dtype=torch.int64)


class Answered(Suspect):
    """Gives the answers that a model gave before to the same images in the same order."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__("answered", SPEC, CLASSES, Access.LABELS, batch=1 << 20)
        self.labels_left = labels

    def _answer(self, images: Tensor) -> Tensor:
        given, self.labels_left = self.labels_left[: len(images)], self.labels_left[len(images) :]
        return given


class MnistNet(nn.Module):
    """The published grey 28 x 28 network, asked about colour images of 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        grey = (images.mean(1, keepdim=True)[:, :, 2:-2, 2:-2] * 0.5 + 0.5 - 0.1307) / 0.3081
        found = F.max_pool2d(self.conv1(grey).relu(), 2)
        found = F.max_pool2d(self.conv2(found).relu(), 2).flatten(1)
        return self.fc2(self.fc1(found).relu())


def trained(name: str, model: nn.Module, steps: int) -> nn.Module:
    domain = fh.load_domain(f"npz:{DATA / name}.npz", classes=CLASSES)
    train_classifier(model, domain, SPEC, Supervised(steps=steps), Trainer(Run(progress=False)), name=name)
    return model


def models() -> dict[str, tuple[nn.Module, fh.InputSpec]]:
    """Two that nobody here trained and three of other kinds, on five data sets."""
    from safetensors.torch import load_file

    resnet = fh.load_model("resnet20", CLASSES, DATA / "weights" / "cifar10_resnet20.safetensors")
    imagenet = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    lenet = MnistNet()
    lenet.load_state_dict(load_file(DATA / "weights" / "mnist_mnistnet.safetensors"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convnet = nn.Sequential(nn.AvgPool2d(2), fh.load_model("convnet", CLASSES))
        perceptron = nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        small = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, CLASSES),
        )  # fmt: skip
    return {
        "resnet20 on CIFAR-10, published": (resnet, imagenet),
        "LeNet on MNIST, published": (lenet, SPEC),
        "convnet on MNIST-M at 16 pixels": (trained("mnist_m", convnet, 300), SPEC),
        "perceptron on synfont": (trained("synfont", perceptron, 300), SPEC),
        "small network on Fashion-MNIST": (trained("fashion_mnist", small, 300), SPEC),
    }


def key_of(method: OwnershipMethod, number: int) -> Key:
    facts = {"input": SPEC.model_dump(mode="json"), "num_classes": CLASSES}
    secret = hashlib.sha256(f"false positives {number}".encode()).digest()
    return Key(secret, "nobody").bound(method.name, method.model_dump(mode="json"), facts)


def answers(model: nn.Module, spec: fh.InputSpec, images: Tensor) -> Tensor:
    """Labels of uint8 images; half precision, since an innocent model may be any model."""
    with torch.inference_mode():
        parts = [
            model(normalise(part, spec, channels_last=True).bfloat16()).argmax(1)
            for part in torch.split(images, 512)
        ]
    return torch.cat(parts)


def measure(method: OwnershipMethod, keys: int, path: Path) -> dict[str, Any]:
    """How many keys matched how often, by model; kept in ``path`` after each chunk."""
    state = json.loads(path.read_text()) if path.exists() else {"done": 0, "counts": {}, "matched": 0}
    innocents = {
        name: (model.eval().bfloat16().to(memory_format=torch.channels_last), spec)
        for name, (model, spec) in models().items()
    }
    while state["done"] < keys:
        numbers = range(state["done"], min(keys, state["done"] + CHUNK))
        asked, trials = Asked(), []
        for number in numbers:
            key = key_of(method, number)
            trials.append(method._trials(key))
            for _ in method._observe(asked, key):
                pass
        images = torch.cat(asked.images)
        for name, (model, spec) in innocents.items():
            given = answers(model, spec, images).view(len(trials), -1)
            counts = state["counts"].setdefault(name, [0] * (len(trials[0].labels) + 1))
            for number, trial, row in zip(numbers, trials, given, strict=True):
                if len(row) != len(
                    trial.labels
                ):  # several images a trial: the method makes one answer of them
                    parts = method._observe(Answered(row), key_of(method, number))
                    row = torch.cat(list(parts))
                observed = Observation(trial, row, ALPHA, method.survives, committed=True)
                counts[observed.matches] += 1
                if observed.chance() <= ALPHA:
                    state["matched"] += observed.decide()[0] == Decision.MATCH
        state["done"] = numbers.stop
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(state))
        print(f"{state['done']} of {keys} keys", flush=True)
    return state


def judge(method: OwnershipMethod, state: dict[str, Any], rate: float) -> dict[str, Any]:
    from scipy.stats import binom

    rows = []
    for name, counts in state["counts"].items():
        trials, keys = len(counts) - 1, sum(counts)
        for level in LEVELS:
            needed = matches_needed(trials, rate, level)
            attained = 0.0 if needed is None else binomial_tail(needed, trials, rate)
            low, high = binom.interval(BAND, keys, attained)
            found = sum(counts[needed:]) if needed is not None else 0
            rows.append(
                {
                    "model": name,
                    "level": level,
                    "attained": attained,
                    "keys": keys,
                    "at or below": found,
                    "rate": found / keys,
                    "band": [int(low), int(high)],
                    "inside": bool(low <= found <= high),
                }
            )
    return {
        "method": method.name,
        "fields": method.model_dump(mode="json"),
        "alpha": ALPHA,
        "matches": state["matched"],
        "rows": rows,
        "counts": state["counts"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="trigger-set", help="one with an exact null that asks for labels")
    parser.add_argument("--keys", type=int, default=20_000)
    args = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    kind = find(args.method)
    if not issubclass(kind, OwnershipMethod):
        sys.exit(f"{args.method} is no ownership method")
    method, began = kind(), time.monotonic()
    state = measure(method, args.keys, CACHE / f"false-positives-{args.method}.json")
    rate = method._trials(key_of(method, 0)).rate
    report({**judge(method, state, rate), "seconds": round(time.monotonic() - began, 1)})


def report(result: dict[str, Any]) -> NoReturn:
    """Write and print what was found; leaves with 1 if a rate is outside its band."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"false-positives-{result['method']}.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        shown = f"{row['at or below']:5} of {row['keys']} keys, band {row['band'][0]} to {row['band'][1]}"
        print(f"{row['model']:32} p <= {row['level']:g}: {shown}{'' if row['inside'] else '  OUTSIDE'}")
    print(f"MATCH at {ALPHA:g}: {result['matches']}")
    sys.exit(not all(row["inside"] for row in result["rows"]) or result["matches"] > 0)


if __name__ == "__main__":
    main()
