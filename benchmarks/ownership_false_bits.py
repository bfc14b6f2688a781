"""Do a passport key's bits stand in models that have nothing to do with it? Random keys, five models.

    python benchmarks/ownership_false_bits.py [--keys 20000]

The owner's model and the five suspects are convnets trained apart, on CIFAR-10 and MNIST, from other initial
weights. Every suspect is aligned to the owner's reference once, as verification does it; then every key's
bits are read. Rates are judged and written as by ownership_false_positives.py.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from ownership_false_positives import ALPHA, judge, report
from ownership_passport import CACHE, cifar10, mnist
from torch import Tensor, nn

import freehold as fh
from freehold.keys import Key
from freehold.models.alignment import align
from freehold.models.norm_pairs import NormPair, norm_pairs
from freehold.ownership.base import verify
from freehold.ownership.observation import Decision, Observation, Trials
from freehold.ownership.passport_marks import Mark, draw_marks
from freehold.ownership.suspect import suspect

SPEC, METHOD = fh.InputSpec(), fh.Passport()
CHUNK = 200  # keys whose bits are read together
CHECKED = 3  # keys that are put to the public verification as well


def key_of(number: int, pairs: tuple[NormPair, ...], learned: dict[str, Tensor]) -> Key:
    layers = [asdict(pair) for pair in pairs]
    facts = {"input": SPEC.model_dump(mode="json"), "num_classes": 10, "layers": layers, "aligned": layers}
    secret = hashlib.sha256(f"false bits {number}".encode()).digest()
    return Key(secret, "nobody").bound(METHOD.name, METHOD.model_dump(mode="json"), facts, learned)


def aligned(model: nn.Module, pairs: tuple[NormPair, ...], learned: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the suspect in the reference's order, sign and scale of channels."""
    orders: list[Tensor] = []
    found = {}
    for pair in pairs:
        weight = model.get_parameter(f"{pair.layer}.weight").detach().float()
        match = align(weight, learned[f"reference.{pair.layer}"].float().view_as(weight), orders)
        orders.append(match.outputs)
        found[pair.layer] = match.weight
    return found


def together(weights: Mapping[str, Tensor], drawn: Sequence[Sequence[Mark]]) -> Tensor:
    """Bits of a suspect under each of several keys, as ``read_bits`` reads them: ``(keys, channels)``."""
    found = []
    for marks in zip(*drawn, strict=True):  # of one layer, a key each
        flat = weights[marks[0].pair.layer].float().flatten(1)
        value = (flat @ torch.stack([m.scale for m in marks], 1)).sign()
        value *= (flat @ torch.stack([m.sign for m in marks], 1)).sign()
        found.append(torch.where(value == 0, -1, (value > 0).long()).T)
    return torch.cat(found, 1)


def measure(keys: int) -> dict[str, Any]:
    CACHE.mkdir(exist_ok=True)
    owner = cifar10(0)[0]
    models = {
        f"convnet {seed} on {name}": bed(seed)[0]
        for name, bed, seeds in (("CIFAR-10", cifar10, (1, 2)), ("MNIST", mnist, (0, 1, 2)))
        for seed in seeds
    }
    pairs = tuple(norm_pairs(owner, SPEC.example()))
    learned = {
        f"reference.{p.layer}": owner.get_parameter(f"{p.layer}.weight").detach().flatten(1).bfloat16()
        for p in pairs
    }
    weights = {name: aligned(model, pairs, learned) for name, model in models.items()}
    total = sum(pair.channels for pair in pairs)
    counts, matched = {name: [0] * (total + 1) for name in models}, 0
    for start in range(0, keys, CHUNK):
        numbers = range(start, min(keys, start + CHUNK))
        drawn = [draw_marks(key_of(number, pairs, learned), pairs) for number in numbers]
        for name, model in models.items():
            read = together(weights[name], drawn)
            for number, marks, bits in zip(numbers, drawn, read, strict=True):
                labels = torch.cat([mark.bits for mark in marks])
                trials = Trials(labels, rate=0.5, null="exact", why="bits are fair coins")
                observed = Observation(trials, bits, ALPHA, METHOD.survives, committed=True)
                counts[name][observed.matches] += 1
                if observed.chance() <= ALPHA:
                    matched += observed.decide()[0] == Decision.MATCH
                if number < CHECKED:
                    key = key_of(number, pairs, learned)
                    verdict = verify(suspect(model, input=SPEC), key, commitment=key.commitment)
                    assert verdict.matches == observed.matches
        print(f"{numbers.stop} of {keys} keys", flush=True)
    return {"counts": counts, "matched": matched}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=20_000)
    args, began = parser.parse_args(), time.monotonic()
    state = measure(args.keys)
    report({**judge(METHOD, state, rate=0.5), "seconds": round(time.monotonic() - began, 1)})


if __name__ == "__main__":
    main()
