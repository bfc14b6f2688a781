"""False claims by name: what each reaches as published, and before this package's own verification.

The claimant has a secret of his own, the released model, a tenth of the training images and two networks of
his own. Where a publication assumes that the owner's h or private statistics leaked, he is handed them.
Which claims may rest on material that was published before the release is said of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from freehold.attacks.ambiguity import closed_form, explained, random_passports, reverse_engineered
from freehold.attacks.false_claims import adversarial_triggers, labels_after_the_fact
from freehold.attacks.published import ClaimedLayer, PassportClaim, TriggerClaim
from freehold.attacks.substitute import Substitute
from freehold.bench.cell import Cell
from freehold.bench.scene import SHARE, TRIGGERS, Forged, Scene
from freehold.bench.stages import Place, base, protected
from freehold.errors import ProblemsError
from freehold.keys import Key
from freehold.models.norm_pairs import NormPair
from freehold.ownership.forgery import (
    forged_key,
    ground,
    judged,
    passport_key,
    sorting_reference,
    trigger_key,
)
from freehold.ownership.passport import Passport
from freehold.ownership.passport_affine import HiddenNet
from freehold.ownership.passport_marks import draw_marks
from freehold.ownership.suspect import ModuleSuspect
from freehold.plugin import Problem
from freehold.seeds import generator
from freehold.training import Trainer

SECRET = bytes(range(100, 132))  # the forger's
DRAWS = 20  # of which the luckiest is brought
GROUND = 1 << 16  # secrets that are tried
INNOCENT, OWN = 1000, (2000, 3000)  # added to the seed: of a network nobody marked, and of the forger's


def forge(name: str, cell: Cell, place: Place) -> dict[str, Any]:
    """Make a false claim and have it judged, as published and by :func:`~freehold.ownership.forgery.judged`.

    Raises:
        ProblemsError: the forgery is of another method.
    """
    made, given = protected(cell, place), base(cell, place)
    kinds, make = FORGERIES[name]
    if made.key is None or made.key.method not in kinds:
        what = f"forges {' or '.join(kinds)}"
        raise ProblemsError(name, [Problem(where="method", what=what, fix="leave it out here")])
    seed = int(cell.config["seed"])

    def other(offset: int) -> nn.Module:
        config = {k: v for k, v in cell.config.items() if k != "method"} | {"seed": seed + offset}
        return base(Cell(config, {}), place).model

    forged = make(Scene(given, made, made.key, seed, other))
    registry = {made.key.commitment, *([forged.key.commitment] if forged.early else [])}
    suspect = ModuleSuspect(forged.model, given.domains.input, name="the claimed model")
    found = judged(suspect, forged.key, registry, presented=forged.presented)
    return {
        "published": forged.published and forged.published["accepted"],
        "as published": forged.published and dict(forged.published),
        **found.to_json(),
    }


def owners_claim(key: Key) -> PassportClaim:
    """The owner's own material in published form: what leaks where a publication assumes it."""
    layers = []
    statistics: dict[str, dict[str, Tensor]] = {}
    for mark in draw_marks(key, [NormPair(**pair) for pair in key.facts["layers"]]):
        h = HiddenNet.learned(mark.pair.channels, key.learned, mark.pair.layer)
        layers.append(ClaimedLayer(mark.pair, mark.scale, mark.shift, mark.bits, h))
    for name, tensor in key.learned.items():
        if name.startswith("private."):
            norm, _, buffer = name.removeprefix("private.").rpartition(".")
            statistics.setdefault(norm, {})[buffer] = tensor
    return PassportClaim(tuple(layers), statistics)


def _passports(scene: Scene, claim: PassportClaim) -> Forged:
    model = scene.made.model
    deployed, private = scene.accuracy(model), scene.accuracy(claim.private(model))
    published = {
        "deployment accuracy": deployed,
        "private accuracy": private,
        "own bits detected": claim.detected(model),
        "accepted": claim.accepted(model, deployed, private),
    }
    return Forged(published, passport_key(SECRET, scene.suspect, claim), model)


def _random(scene: Scene) -> Forged:
    true, model = owners_claim(scene.key), scene.made.model
    draws = [
        random_passports(true.layers, generator(scene.seed, "random", i), true.statistics)
        for i in range(DRAWS)
    ]
    return _passports(scene, max(draws, key=lambda claim: scene.accuracy(claim.private(model))))


def _reversed(scene: Scene, *, leaked: bool) -> Forged:
    owners = owners_claim(scene.key).layers if leaked else ()
    nets = {layer.pair.layer: layer.h for layer in owners if layer.h} or None
    trainer, spec = Trainer(scene.run), scene.given.domains.input
    return _passports(scene, reverse_engineered(scene.made.model, scene.images(), spec, trainer, nets=nets))


def _substituted(scene: Scene, *, block: str) -> Forged:
    domain, spec = scene.given.domains.all()[0], scene.given.domains.input
    attacked = Substitute(block=block, share=SHARE).run(scene.made.model, domain, spec, run=scene.run)
    return _passports(scene, explained(scene.made.model, attacked.model, spec.example()))


def _closed(scene: Scene) -> Forged:
    return _passports(scene, _spelled_claim(scene))


def _spelled_claim(scene: Scene) -> PassportClaim:
    return closed_form(scene.made.model, scene.given.domains.input.example(), spelled)


def spelled(pair: NormPair) -> Tensor:
    """A name in ASCII, repeated."""
    bits = [int(bit) for char in b"Mallory owns this. " for bit in f"{char:08b}"]
    return torch.tensor((bits * (pair.channels // len(bits) + 1))[: pair.channels])


def _sorting(scene: Scene, *, innocent: bool) -> Forged:
    model = scene.others(INNOCENT) if innocent else scene.made.model
    suspect = ModuleSuspect(model, scene.given.domains.input)
    key = sorting_reference(passport_key(SECRET, suspect, _spelled_claim(scene)))
    return Forged(None, key, model, early=True)


def _repeated(scene: Scene) -> Forged:
    """One layer listed ten times; of twenty secrets the luckiest."""
    claim, suspect = _spelled_claim(scene), scene.suspect
    sorting = sorting_reference(passport_key(SECRET, suspect, claim))
    keys = [
        forged_key(
            bytes([i]) * 32,
            Passport(),
            suspect,
            layers=[claim.layers[0].pair] * 10,
            learned=dict(sorting.learned),
        )
        for i in range(DRAWS)
    ]
    best = min(keys, key=lambda key: judged(suspect, key, ()).believed.p_adjusted)
    return Forged(None, best, scene.made.model, early=True)


def _triggers(scene: Scene, claim: Callable[[Scene, nn.Module], TriggerClaim], *, innocent: bool) -> Forged:
    model = scene.others(INNOCENT) if innocent else scene.made.model
    suspect, claimed = ModuleSuspect(model, scene.given.domains.input), claim(scene, model)
    answers = suspect.labels(claimed.images)
    published = {"triggers": claimed.detected(answers), "accepted": claimed.accepted(answers)}
    return Forged(published, trigger_key(SECRET, suspect, claimed, scene.method), model)


def _adversarial(scene: Scene, model: nn.Module, *, transferred: bool) -> TriggerClaim:
    images, spec = scene.images().images[:TRIGGERS], scene.given.domains.input
    classes = scene.given.domains.num_classes
    labels = torch.randint(classes, (len(images),), generator=generator(scene.seed, "claimed"))
    models = [scene.others(offset) for offset in OWN] if transferred else [model]
    return adversarial_triggers(models, images, labels, spec)


def _afterwards(scene: Scene, model: nn.Module) -> TriggerClaim:
    suspect = ModuleSuspect(model, scene.given.domains.input)
    return labels_after_the_fact(suspect.labels, scene.images().images[:TRIGGERS])


def _ground(scene: Scene, *, early: bool) -> Forged:
    """Early, the secrets are ground on a stand-in, since the model is not yet to be had."""
    model = scene.others(INNOCENT)
    asked = ModuleSuspect(scene.others(OWN[0]) if early else model, scene.given.domains.input)
    key = ground(asked, scene.method, seeds=GROUND)
    if early:
        return Forged(None, key, model, early=True)
    suspect = ModuleSuspect(model, scene.given.domains.input)
    believed = judged(suspect, key, ()).believed
    share = believed.matches / believed.trials
    return Forged({"triggers": share, "accepted": share >= 0.9}, key, model)


def _back_dated(scene: Scene) -> Forged:
    """The owner's commitment, and another key."""
    layers = [NormPair(**pair) for pair in scene.key.facts.get("layers", ())]
    key = forged_key(SECRET, scene.method, scene.suspect, layers=layers, learned=dict(scene.key.learned))
    return Forged(None, key, scene.made.model, presented=scene.key.commitment)


def _renamed(scene: Scene) -> Forged:
    """All that the owner learned, under a secret of the forger's, and no earlier date."""
    forged = _back_dated(scene)
    return Forged(None, forged.key, forged.model)


_PASSPORT, _TRIGGER = ("passport",), ("trigger-set", "ptynet")
FORGERIES: dict[str, tuple[tuple[str, ...], Callable[[Scene], Forged]]] = {
    "random passports": (_PASSPORT, _random),
    "reverse-engineered, h leaked": (_PASSPORT, partial(_reversed, leaked=True)),
    "reverse-engineered, own h": (_PASSPORT, partial(_reversed, leaked=False)),
    "substituted affine": (_PASSPORT, partial(_substituted, block="plain")),
    "substituted, IERB": (_PASSPORT, partial(_substituted, block="individual")),
    "substituted, CERB": (_PASSPORT, partial(_substituted, block="cross-channel")),
    "closed form": (_PASSPORT, _closed),
    "sorting reference": (_PASSPORT, partial(_sorting, innocent=False)),
    "sorting reference, innocent model": (_PASSPORT, partial(_sorting, innocent=True)),
    "one layer ten times": (_PASSPORT, _repeated),
    "adversarial triggers": (
        _TRIGGER, partial(_triggers, claim=partial(_adversarial, transferred=False), innocent=False),
    ),
    "adversarial triggers, innocent model": (
        _TRIGGER, partial(_triggers, claim=partial(_adversarial, transferred=False), innocent=True),
    ),
    "adversarial triggers, transferred": (
        _TRIGGER, partial(_triggers, claim=partial(_adversarial, transferred=True), innocent=True),
    ),
    "labels after the fact": (_TRIGGER, partial(_triggers, claim=_afterwards, innocent=True)),
    "ground secrets": (_TRIGGER, partial(_ground, early=False)),
    "ground secrets, published before": (_TRIGGER, partial(_ground, early=True)),
    "back-dated": (_PASSPORT + _TRIGGER, _back_dated),
    "the owner's material, another secret": (_PASSPORT + _TRIGGER, _renamed),
}  # fmt: skip
