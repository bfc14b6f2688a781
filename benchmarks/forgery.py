"""False claims against marked and innocent models: what each reaches as published, and before our own verify.

    python benchmarks/forgery.py [--seeds-log2 20] [--steps 100]

Convolutional networks on the embedded digits: one marked with passports, one with triggers, one innocent, two
of the forger's. Everything the forger does starts from a released model; the owner's h and private statistics
are handed to him where a publication assumes that they leaked. Writes results/ownership/forgery.json, and
leaves with 1 if a forged claim is accepted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import freehold as fh
from freehold.attacks.ambiguity import closed_form, explained, random_passports, reverse_engineered
from freehold.attacks.false_claims import adversarial_triggers, labels_after_the_fact
from freehold.attacks.published import PassportClaim
from freehold.attacks.substitute import Substitute
from freehold.bench.forgeries import owners_claim, spelled
from freehold.keys import Key
from freehold.metrics.accuracy import share_correct
from freehold.models.norm_pairs import NormPair
from freehold.ownership.forgery import (
    forged_key,
    ground,
    judged,
    passport_key,
    sorting_reference,
    trigger_key,
)  # fmt: skip
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.seeds import generator, global_draws
from freehold.training import Run, Trainer
from freehold.training.classifier import Supervised, train_classifier

RESULTS = Path(__file__).resolve().parent / "results" / "ownership"
SPEC = fh.InputSpec(size=16)
SHARE = 0.1  # of the training images that a forger has
FORGER = bytes(range(100, 132))
Row = dict[str, Any]


@dataclass
class Scene:
    """Who is there."""

    domain: fh.Domain
    stolen: fh.Split  # the forger's images
    passports: fh.Protected
    triggers: fh.Protected
    innocent: nn.Module
    own: list[nn.Module]  # the forger's
    registry: set[str]

    def trainer(self) -> Trainer:
        return Trainer(run(7))

    def accuracy(self, model: nn.Module) -> float:
        return share_correct(model, self.domain.test, SPEC)


def run(seed: int) -> Run:
    return Run(seed=seed, device="cpu", precision="bf16", progress=False)


def trained(domain: fh.Domain, seed: int, steps: int) -> nn.Module:
    with global_draws(seed, "model"):
        model = fh.load_model("convnet", domain.num_classes)
    train_classifier(model, domain, SPEC, Supervised(steps=steps), Trainer(run(seed)))
    return model


def scene(steps: int) -> Scene:
    domain = fh.load_domain("digits")
    base, innocent, *own = (trained(domain, seed, steps) for seed in range(4))
    domains = fh.Domains(domain, [], SPEC)
    owner = Key(bytes(range(32)), "owner")
    marked = fh.Passport(steps=steps).protect(base, domains, run=run(0), key=owner)
    taught = TriggerSet().protect(base, domains, run=run(0), key=owner)
    rows = torch.randperm(len(domain.train), generator=generator(1, "stolen"))
    registry = {p.key.commitment for p in (marked, taught) if p.key}
    stolen = domain.train.take(rows[: round(SHARE * len(rows))])
    return Scene(domain, stolen, marked, taught, innocent, own, registry)


def ours(model: nn.Module, key: Key, registry: set[str], **options: Any) -> Row:
    return judged(suspect(model, input=SPEC), key, registry, **options).to_json()


def passport_row(s: Scene, name: str, claim: PassportClaim, **extra: Any) -> Row:
    model = s.passports.model
    deployed, private = s.accuracy(model), s.accuracy(claim.private(model))
    key = passport_key(FORGER, suspect(model, input=SPEC), claim)
    return {
        "forgery": name,
        "published": {
            "deployment accuracy": deployed,
            "private accuracy": private,
            "own bits detected": claim.detected(model),
            "accepted": claim.accepted(model, deployed, private),
        },
        **extra,
        "ours": ours(model, key, s.registry),
    }


def passport_rows(s: Scene) -> Iterator[Row]:
    model, true = s.passports.model, owners_claim(s.passports.key)
    example = SPEC.example()
    scales = [layer.h(layer.projections(model).T)[0].detach() for layer in true.layers if layer.h]
    owners = {layer.pair.layer: scale > 0 for layer, scale in zip(true.layers, scales, strict=True)}

    def differs(forged: PassportClaim) -> float:
        """BDR: share of the private scales' signs that differ from the owner's."""
        return sum(
            float(((layer.bits > 0) != owners[layer.pair.layer]).float().mean()) for layer in forged.layers
        ) / len(forged.layers)

    draws = [random_passports(true.layers, generator(i, "random"), true.statistics) for i in range(20)]
    reached = [s.accuracy(claim.private(model)) for claim in draws]
    best = draws[max(range(20), key=lambda i: reached[i])]
    yield passport_row(
        s, "random passports, best of 20; h leaked", best, mean=sum(reached) / 20, largest=max(reached)
    )
    nets = {layer.pair.layer: layer.h for layer in true.layers if layer.h}
    for label, given in (("h leaked", nets), ("h his own", None)):
        claim = reverse_engineered(model, s.stolen, SPEC, s.trainer(), nets=given)
        yield passport_row(s, f"reverse-engineered passports; {label}", claim)
    for block in ("plain", "individual", "cross-channel"):
        name = {"plain": "affine alone", "individual": "IERB", "cross-channel": "CERB"}[block]
        attacked = Substitute(block=block, share=SHARE).run(model, s.domain, SPEC, run=run(7))
        claim = explained(model, attacked.model, example)
        steps = attacked.record["cost"]["steps"]
        yield passport_row(
            s, f"substitution: {name}, 10 % of the data", claim, BDR=differs(claim), steps=steps
        )
    claim = closed_form(model, example, spelled)
    yield passport_row(s, "closed form, no data; bits spell a name", claim)


def crafted_rows(s: Scene) -> Iterator[Row]:
    """Keys that were made for our own reading, committed to before the release: the date is no help."""
    claim = closed_form(s.passports.model, SPEC.example(), spelled)
    for name, model in (("marked", s.passports.model), ("innocent", s.innocent)):
        who = suspect(model, input=SPEC)
        sorting = sorting_reference(passport_key(FORGER, who, claim))
        yield crafted(
            f"reference that sorts filters into bits, published before; {name} model", model, sorting, s
        )
        pair = claim.layers[0].pair
        twice = [
            forged_key(bytes([i]) * 32, fh.Passport(), who, layers=[pair] * 10, learned=dict(sorting.learned))
            for i in range(20)
        ]
        luckiest = min(twice, key=lambda key: ours(model, key, s.registry)["p, its date believed"])
        yield crafted(
            f"one layer listed ten times, best of 20, published before; {name} model", model, luckiest, s
        )


def crafted(name: str, model: nn.Module, key: Key, s: Scene) -> Row:
    return {"forgery": name, "published": None, "ours": ours(model, key, s.registry | {key.commitment})}


def trigger_rows(s: Scene) -> Iterator[Row]:
    method, labels = TriggerSet(), torch.randint(10, (100,), generator=generator(0, "claimed"))
    rows = torch.randint(len(s.stolen), (100,), generator=generator(0, "starts"))
    start = s.stolen.images[rows]
    victims = {"innocent": s.innocent, "marked": s.triggers.model}
    for name, model in victims.items():
        asked = suspect(model, input=SPEC)
        claims = {
            "adversarial triggers, made on the model": adversarial_triggers([model], start, labels, SPEC),
            "adversarial triggers, made on two others": adversarial_triggers(s.own, start, labels, SPEC),
            "labels written after the answers": labels_after_the_fact(asked.labels, start),
        }
        for what, claim in claims.items():
            answers = asked.labels(claim.images)
            yield {
                "forgery": f"{what}; {name} model",
                "published": {"triggers": claim.detected(answers), "accepted": claim.accepted(answers)},
                "ours": ours(model, trigger_key(FORGER, asked, claim, method), s.registry),
            }


def ground_rows(s: Scene, seeds: int) -> Iterator[Row]:
    for method in (TriggerSet(), TriggerSet(kind_of_trigger="content"), fh.PTYNet()):
        kind = f"{method.name}, {method.kind_of_trigger}" if isinstance(method, TriggerSet) else method.name
        asked = suspect(s.innocent, input=SPEC)
        late, early = (ground(suspect(m, input=SPEC), method, seeds=seeds) for m in (s.innocent, s.own[0]))
        seen = method._trials(late).labels
        share = float((torch.cat(list(method._observe(asked, late))) == seen).float().mean())
        yield {
            "forgery": f"best of {seeds} secrets on the model ({kind})",
            "published": {"triggers": share, "accepted": share >= 0.9},
            "ours": ours(s.innocent, late, s.registry),
        }
        yield crafted(
            f"best of {seeds} secrets on a stand-in, published before ({kind})", s.innocent, early, s
        )


def date_rows(s: Scene) -> Iterator[Row]:
    model, true = s.passports.model, s.passports.key
    claim = closed_form(model, SPEC.example(), spelled)
    key = passport_key(FORGER, suspect(model, input=SPEC), claim)
    found = ours(model, key, s.registry, presented=true.commitment)
    yield {"forgery": "back-dating: the owner's commitment, another key", "published": None, "ours": found}
    renamed = forged_key(FORGER, fh.Passport(), suspect(model, input=SPEC), layers=[
        NormPair(**pair) for pair in true.facts["layers"]], learned=dict(true.learned))  # fmt: skip
    found = ours(model, renamed, s.registry, presented=true.commitment)
    yield {"forgery": "the owner's learned tensors under another secret", "published": None, "ours": found}


def dispute(s: Scene) -> Row:
    """A second mark, really put into a stolen copy: both keys are known, and dates tell who was first."""
    domains, forger = fh.Domains(s.domain, [], SPEC), Key(FORGER, "forger")
    copy = TriggerSet().protect(s.triggers.model, domains, run=run(5), key=forger)
    return {
        "the forger's copy, the forger's key": ours(copy.model, copy.key, s.registry),
        "the forger's copy, the owner's key": ours(copy.model, s.triggers.key, s.registry),
        "the owner's release, the forger's key": ours(s.triggers.model, copy.key, s.registry),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds-log2", type=int, default=20, help="secrets that are ground")
    parser.add_argument("--steps", type=int, default=100, help="of each training")
    args = parser.parse_args()
    began, spent = time.monotonic(), time.process_time()
    s = scene(args.steps)
    owners = {
        name: ours(p.model, p.key, s.registry)
        for name, p in (("passport", s.passports), ("trigger-set", s.triggers))
    }
    rows = []
    for part in (
        passport_rows(s), crafted_rows(s), trigger_rows(s), ground_rows(s, 1 << args.seeds_log2), date_rows(s)
    ):  # fmt: skip
        for row in part:
            rows.append(row)
            print(shown(row), flush=True)
    second = dispute(s)
    for name, found in second.items():
        print(f"{'a second mark: ' + name:72} {found['decision']}, p = {found['p']:.1e}")
    for name, found in owners.items():
        print(f"{'the owner: ' + name:72} {found['decision']}, p = {found['p']:.1e}")
    accepted = [row["forgery"] for row in rows if row["ours"]["accepted"]]
    result = {
        "models": "convnet on the embedded digits, 16 pixels",
        "steps": args.steps,
        "accuracies": {
            "passports": s.accuracy(s.passports.model), "triggers": s.accuracy(s.triggers.model),
            "innocent": s.accuracy(s.innocent),
        },
        "owners": owners,
        "forgeries": rows,
        "a second mark": second,
        "accepted by ours": accepted,
        "processor seconds": round(time.process_time() - spent, 1),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "forgery.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(rows)} forgeries, {len(accepted)} accepted; {result['processor seconds']} processor seconds")
    sys.exit(bool(accepted) or any(not found["accepted"] for found in owners.values()))


def shown(row: Row) -> str:
    published, found = row["published"], row["ours"]
    if published is None:
        left = "-"
    elif "triggers" in published:
        left = f"triggers {published['triggers']:.1%}"
    else:
        accuracy = f"{published['private accuracy']:.1%} (deployed {published['deployment accuracy']:.1%})"
        left = f"accuracy {accuracy}, bits {published['own bits detected']:.1%}"
    left += "" if published is None else (" ACCEPTED" if published["accepted"] else " refused")
    p = "" if found["p"] is None else f" p = {found['p']:.1e},"
    matches = "{} of {}".format(*found["matches"])
    return f"{row['forgery']:72} | {left:62} | {found['decision']},{p} {matches}, by {found['stopped by']}"


if __name__ == "__main__":
    main()
