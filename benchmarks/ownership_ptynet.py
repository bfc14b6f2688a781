"""PTYNet on the pretrained CIFAR ResNet-20: what it costs, what it keeps, and what takes it out.

    python benchmarks/ownership_ptynet.py mark [--keys 0 1 2] [--fusion gate] [--steps N]
    python benchmarks/ownership_ptynet.py measure [--keys 0 1 2] [--fusion gate]
    python benchmarks/ownership_ptynet.py attack [--keys 0 1 2] [--fusion gate]

``mark`` keeps the marked model under .cache/; ``measure`` writes a JSON a key under results/ownership/, and
``attack`` adds to it. The data is looked for in FREEHOLD_DATA or ../shared/data beside the checkout. Times
are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import freehold as fh
from freehold.attacks.base import Attack
from freehold.attacks.filter import blur, jpeg
from freehold.attacks.fine_tune import FineTune
from freehold.attacks.perturb import Perturb
from freehold.attacks.prune import Prune
from freehold.attacks.quantize import Quantize
from freehold.attacks.surgery import CutBranch
from freehold.data.batches import fit_images
from freehold.data.pixels import resize, to_uint8
from freehold.keys import Key, Stream
from freehold.metrics.accuracy import apply
from freehold.models.checkpoint import state_hash
from freehold.models.fusion import margin
from freehold.models.zoo import ModelSpec
from freehold.ownership.backgrounds import Foregrounds
from freehold.ownership.base import verify
from freehold.ownership.ptynet import PTYNet
from freehold.ownership.suspect import suspect
from freehold.statistics import binomial_tail, clopper_pearson
from freehold.training import Run

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FREEHOLD_DATA", HERE.parents[1] / "shared" / "data"))
RESULTS, CACHE = HERE / "results" / "ownership", HERE / ".cache"
BARE = ModelSpec(uri="resnet20", num_classes=10)
SPEC = fh.InputSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HELD_OUT, WRONG_KEYS = 25, 20  # things before each background; keys of other owners
FEW = 10  # of these things, where much is tried


def crop(images: Tensor, pixels: int) -> Tensor:
    side = images.shape[2]
    inner = images[:, :, pixels : side - pixels, pixels : side - pixels]
    return to_uint8(F.interpolate(inner.float(), (side, side), mode="bilinear"))


def noise(images: Tensor, deviation: int) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return to_uint8(images + deviation * torch.randn(images.shape, generator=draws))


def floating(change: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    return lambda images, value: to_uint8(255 * change(images.float() / 255, value))


PIPELINE: dict[str, tuple[Callable[[Tensor, Any], Tensor], tuple[float, ...]]] = {
    "resize to": (lambda x, side: resize(resize(x, (side, side)), (32, 32)), (28, 24, 20, 16, 12, 8)),
    "crop, pixels a side": (crop, (1, 2, 3, 4, 5, 6)),
    "JPEG, quality": (floating(lambda x, q: jpeg(x, (90 - q) / 20)), (90, 70, 50, 30, 20, 10)),
    "noise, levels": (noise, (5, 10, 20, 30, 40, 60)),
    "blur, sigma": (floating(lambda x, sigma: blur(x, 2 * sigma)), (0.5, 1.0, 1.5, 2.0, 3.0)),
}


def attacks(images: int) -> dict[str, tuple[Attack, str]]:
    hundred = 100 * 64 / images
    return {
        "fine-tuned, 100 steps of SGD 0.01": (FineTune(epochs=hundred), "last"),
        "fine-tuned, 100 steps of SGD 0.05": (FineTune(epochs=hundred, lr=0.05), "last"),
        "half of the weights pruned": (Prune(share=0.5), "model"),
        "70 % of the weights pruned": (Prune(share=0.7), "model"),
        "half pruned over all layers": (Prune(share=0.5, scope="global"), "model"),
        "8 bits": (Quantize(bits=8), "model"),
        "4 bits": (Quantize(bits=4), "model"),
        "noise on the weights, 0.1": (Perturb(noise=0.1, shift=0, epochs=0), "model"),
        "branch cut off": (CutBranch(), "model"),
    }


def share(right: Tensor) -> float:
    return float(right.float().mean())


def logits(model: nn.Module, images: Tensor) -> Tensor:
    return apply(model, fh.Split(images, torch.zeros(len(images), dtype=torch.int64)), SPEC)


def seconds(model: nn.Module, images: Tensor) -> float:
    began = time.process_time()
    model(images)
    return time.process_time() - began


@torch.inference_mode()
def overhead(target: nn.Module, fused: nn.Module) -> dict[str, float]:
    """Medians of calls that take turns, so that the machine's other work hits both alike."""
    found = {}
    for batch, turns in ((1, 600), (16, 100), (128, 20)):
        images = torch.randn(batch, 3, 32, 32)
        taken = [(seconds(target, images), seconds(fused, images)) for _ in range(turns)]
        alone, both = (statistics.median(times) for times in zip(*taken, strict=True))
        found[f"batch {batch}"] = both / alone - 1
    return found


def judged(model: nn.Module, key: Key, **options: Any) -> dict[str, Any]:
    began = time.process_time()
    verdict = verify(suspect(model, input=SPEC), key, **options)
    shown = verdict.model_dump(
        mode="json", include={"decision", "matches", "trials", "p_adjusted", "queries"}
    )
    return {**shown, "seconds": round(time.process_time() - began, 3)}


def loaded() -> tuple[fh.Domain, nn.Module]:
    domain = fh.load_domain(f"npz:{DATA}/cifar10.npz", classes=10)
    return domain, fh.load_model("resnet20", 10, DATA / "weights" / "cifar10_resnet20.safetensors").eval()


def mark(number: int, args: argparse.Namespace) -> None:
    domain, model = loaded()
    method = PTYNet(fusion=args.fusion, **({"steps": args.steps} if args.steps else {}))
    began = time.process_time()
    protected = method.protect(
        model,
        fh.Domains(domain, [], SPEC),
        run=Run(seed=number, device="cpu", progress=False),
        key=Key(number.to_bytes(32, "big"), "benchmark"),
    )
    record = {**protected.record, "processor seconds": time.process_time() - began}
    place = CACHE / f"ptynet-{args.fusion}-{number}"
    protected.save(place, fh.Recipe(model=BARE, input=SPEC, classes=domain.classes))
    (place / "record.json").write_text(json.dumps(record))
    facts = {"facts": dict(protected.key.facts), "settings": dict(protected.key.settings)}
    (place / "key.json").write_text(json.dumps(facts))  # its secret is the number
    print(place, round(record["processor seconds"], 1), json.dumps(record["figures"], indent=1))


def kept(number: int, fusion: str) -> tuple[nn.Module, Key, dict[str, Any]]:
    place = CACHE / f"ptynet-{fusion}-{number}"
    record, bound = (json.loads((place / f"{name}.json").read_text()) for name in ("record", "key"))
    key = Key(number.to_bytes(32, "big"), "benchmark").bound("ptynet", bound["settings"], bound["facts"])
    return fh.load_checkpoint(place)[0], key, record


def measure(number: int, args: argparse.Namespace) -> None:
    result = measured(number, *kept(number, args.fusion))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"ptynet-{args.fusion}-{number}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("fields", "versions")}, indent=1))


def measured(number: int, fused: nn.Module, key: Key, record: dict[str, Any]) -> dict[str, Any]:
    domain, model = loaded()
    method = PTYNet(**key.settings)
    labels = method._trials(key).labels
    images = domain.test.images
    before, after = logits(model, images), logits(fused, images)
    opened = margin(logits(fused.branch, images)) > 0
    things = Foregrounds(Stream(bytes(32), "held out"), HELD_OUT * len(labels), SPEC)
    triggers = things.before(method._backgrounds(key).repeat(HELD_OUT, 1, 1, 1))
    expected = labels.repeat(HELD_OUT)
    margins = margin(logits(fused.branch, triggers))
    success = share(logits(fused, triggers).argmax(1) == expected)
    some, ordinary = FEW * len(labels), {}
    for name in ("tinyimagenet_cifar7", "mnist_m", "synfont", "usps", "fashion_mnist"):
        split = fh.load_domain(f"npz:{DATA}/{name}.npz").test
        seen = int((margin(logits(fused.branch, fit_images(split.images, SPEC))) > 0).sum())
        ordinary[name] = {"images": len(split), "open the gate": seen}
    wrong = [Key((1000 + i).to_bytes(32, "big"), "other").bound(key.method, key.settings, key.facts)
             for i in range(WRONG_KEYS)]  # fmt: skip
    verdicts = [judged(fused, other, commitment=other.commitment) for other in wrong]
    matches, trials = (sum(v[name] for v in verdicts) for name in ("matches", "trials"))
    return {
        "method": method.name,
        "fields": record["fields"],
        "key": number,
        "commitment holds": key.commitment == record["commitment"],
        "embedding, processor seconds": round(record["processor seconds"], 1),
        "embedding, wall seconds": round(record["seconds"], 1),
        "figures": record["figures"],
        "notes": record["notes"],
        "target's hash unchanged": state_hash(fused.target) == state_hash(model),
        "test images": len(images),
        "predictions identical": int((before.argmax(1) == after.argmax(1)).sum()),
        "logits identical": int((before == after).all(1).sum()),
        "gate closed": int((~opened).sum()),
        "open the gate, at most": clopper_pearson(int(opened.sum()), len(images)).high,
        "highest margin of a test image": float(margin(logits(fused.branch, images)).max()),
        "held-out triggers": {
            "images": len(triggers),
            "success": success,
            "margin, quantiles 0, 1 %, 50 %": margins.quantile(torch.tensor([0, 0.01, 0.5])).tolist(),
        },
        "other domains": ordinary,
        "verdict": judged(fused, key, commitment=key.commitment),
        "verdict without commitment": judged(fused, key),
        "sequential verdict": judged(fused, key, commitment=key.commitment, sequential=True),
        "verdict on the original": judged(model, key, commitment=key.commitment),
        "wrong keys": {
            "keys": WRONG_KEYS,
            "matches": matches,
            "trials": trials,
            "p": binomial_tail(matches, trials, 0.1),
            "MATCH": sum(v["decision"] == "MATCH" for v in verdicts),
        },
        "overhead": overhead(model, fused),
        "overhead allowed": record["figures"]["its operations to the target's"] + 0.05,
        "pipeline": {
            name: {
                f"{value:g}": share(
                    logits(fused, change(triggers[:some], value)).argmax(1) == expected[:some]
                )
                for value in values
            }
            for name, (change, values) in PIPELINE.items()
        },
        "versions": record["versions"],
    }


def attacked(number: int, args: argparse.Namespace) -> None:
    """What attacks leave of the mark; added to what ``measure`` wrote."""
    path = RESULTS / f"ptynet-{args.fusion}-{number}.json"
    result = json.loads(path.read_text())
    fused, key, _ = kept(number, args.fusion)
    domain, _ = loaded()
    method = PTYNet(**key.settings)
    labels = method._trials(key).labels
    things = Foregrounds(Stream(bytes(32), "held out"), FEW * len(labels), SPEC)
    triggers, expected = (
        things.before(method._backgrounds(key).repeat(FEW, 1, 1, 1)),
        labels.repeat(FEW),
    )
    few = {"train": domain.train, "val": domain.val.take(torch.arange(200)), "test": domain.test}
    few["test"] = domain.test.take(torch.arange(500))
    for name, (attack, state) in attacks(len(domain.train)).items():
        found = attack.run(
            fused, domain.with_splits(few), SPEC, run=Run(seed=number, device="cpu", progress=False)
        )
        thief = getattr(found, state)
        result.setdefault("attacks, accuracy on 500 test images", {})[name] = {
            "accuracy before": found.before.value,
            "accuracy": share(logits(thief, few["test"].images).argmax(1) == few["test"].labels),
            "triggers": share(logits(thief, triggers).argmax(1) == expected),
            **judged(thief, key, commitment=key.commitment),
        }
        print(f"{name:36}", result["attacks, accuracy on 500 test images"][name], flush=True)
        path.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("mark", "measure", "attack"))
    parser.add_argument("--keys", nargs="*", type=int, default=[0])
    parser.add_argument("--fusion", default="gate")
    parser.add_argument("--steps", type=int)
    if not DATA.is_dir():
        sys.exit(f"no data at {DATA}: set FREEHOLD_DATA")
    args = parser.parse_args()
    for number in args.keys:
        {"mark": mark, "measure": measure, "attack": attacked}[args.part](number, args)


if __name__ == "__main__":
    main()
