"""Passports: a secret second branch of a network's norm layers, and bits in the signs of its filters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.data.batches import Augment
from freehold.data.domain import Domains
from freehold.keys import Key
from freehold.models.alignment import align
from freehold.models.norm_pairs import NormPair
from freehold.models.rescale import lift_filters
from freehold.models.two_branches import TwoBranches, with_numbers
from freehold.models.wrapped import holding
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.embedding import labelled, unchanged
from freehold.ownership.observation import UNCOMMITTED, Trials
from freehold.ownership.passport_affine import HiddenNet, PassportAffine
from freehold.ownership.passport_card import CARD
from freehold.ownership.passport_layers import chosen_pairs, pairs_up_to, unfit
from freehold.ownership.passport_marks import draw_marks, read_bits
from freehold.ownership.passport_reading import pairs_in, reference_for, weight_in
from freehold.ownership.passport_training import Measurement, joint_objective
from freehold.ownership.suspect import Suspect
from freehold.plugin import Access, Card, Problem
from freehold.protection import Outcome
from freehold.training import Loop, Trainer


class Passport(OwnershipMethod):
    """Ties norm layers to secret passports, and writes the key's bits into the signs of filters.

    What is shipped is a plain network. Verification reads the bits out of a suspect's weights; it needs the
    commitment, since h, private statistics and reference prove something only if they were fixed before.
    To claim a service, put a trigger set on top of the shipped model: one verdict from its answers first,
    one from its weights to confirm, each with a key of its own.
    """

    name = "passport"
    access: ClassVar[Access] = Access.WEIGHTS
    survives: ClassVar[float] = 0.9
    needs_commitment: ClassVar[bool] = True
    card: ClassVar[Card] = CARD

    layers: str = Field(
        "all",
        min_length=1,
        max_length=2000,
        description="which are marked: all, last-N, or shell patterns of layer names, separated by commas",
    )
    scheme: Literal["pan", "deepipr-v1", "deepipr-v2"] = Field(
        "pan",
        description="passport-aware; or DeepIPR: no h, statistics shared, and v1 ships the private branch",
    )
    start: Literal["trained", "untrained"] = Field(
        "trained", description="the model handed in; an untrained one is marked while it is trained"
    )
    joint: Literal["summed", "alternating"] = Field(
        "summed", description="both branches in every step, or one in turn"
    )
    reading: Literal["aligned", "published"] = Field(
        "aligned", description="of bits: after undoing order, sign and scale of channels, or as plain signs"
    )
    margin: float = Field(
        0.7, gt=0, le=5, description="that bits keep, in deviations of a filter without a mark"
    )
    sign_weight: float = Field(0.1, gt=0, le=100, description="of the bits' hinge loss (paper: 0.1)")
    lr: float = Field(
        5e-4, gt=0, le=1, description="Adam, at its highest; a few times this for an untrained model"
    )
    steps: int = Field(
        600, ge=2, le=1_000_000, description="optimiser steps", json_schema_extra={"unit": "steps"}
    )
    batch_size: int = Field(
        64, ge=2, le=65536, description="images a step", json_schema_extra={"unit": "images"}
    )
    shift: int = Field(
        2, ge=0, le=64, description="random translation of images", json_schema_extra={"unit": "pixels"}
    )
    flip: bool = Field(False, description="mirror images left-right half the time")

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        return unfit(model, domains.input.example(), self.layers)

    def _trials(self, key: Key) -> Trials:
        marks = draw_marks(key, pairs_in(key))
        return Trials(
            labels=torch.cat([mark.bits for mark in marks]),
            rate=0.5,
            null="exact",
            why="Binomial(n, 1/2): the key draws each bit by itself, whatever the passports, the suspect's "
            "weights and the reference that these are aligned to",
            parts=tuple((mark.pair.layer, mark.pair.channels) for mark in marks),
            tried=UNCOMMITTED,  # a reference can be varied, and each one draws other bits
        )

    def questions(self, key: Key) -> int:
        """None: bits are read in weights."""
        return 0

    def exhibits(self, key: Key) -> tuple[str, ...]:
        """Names of the marked layers, and of those in front of them that are aligned as well."""
        return tuple(p.layer for p in pairs_in(key, "aligned" if self.reading == "aligned" else "layers"))

    def _observe(self, suspect: Suspect, key: Key) -> Iterator[Tensor]:
        """Bits layer by layer.

        The null stays exact under alignment, whatever the reference: the order of a suspect's channels is
        chosen by its weights and the reference. Given both and the passports, what is read is fixed; the bits
        are drawn from the secret and the reference, so that each is still a fair coin.
        """
        marks = {mark.pair.layer: mark for mark in draw_marks(key, pairs_in(key))}
        model = holding(suspect.weights(), self.exhibits(key))
        if self.reading == "published":
            for mark in marks.values():
                yield read_bits(weight_in(model, mark.pair, suspect.name), mark, canonical=False)
            return
        orders: list[Tensor] = []  # in which channels of earlier layers were found: later inputs may stand so
        for pair in pairs_in(key, "aligned"):
            weight = weight_in(model, pair, suspect.name)
            found = align(weight, reference_for(key, pair, weight), orders)
            orders.append(found.outputs)
            if pair.layer in marks:
                yield read_bits(found.weight, marks[pair.layer], canonical=True)

    def private(self, model: nn.Module, key: Key) -> nn.Module:
        """The private branch put back on ``model``: a plain network in evaluation mode.

        Args:
            model: of the marked architecture, on the CPU, its channels in the order of the marked model.
            key: of a model marked by this method.
        """
        affine = self._affine(key, pairs_in(key), torch.device("cpu"), learned=True)
        numbers: dict[str, dict[str, Tensor]] = {}
        for name, tensor in key.learned.items():
            if name.startswith("private."):
                norm, _, buffer = name.removeprefix("private.").rpartition(".")
                numbers.setdefault(norm, {})[buffer] = tensor
        with torch.no_grad():
            for mark, (scale, shift) in zip(affine.marks, affine(model), strict=True):
                numbers.setdefault(mark.pair.norm, {}).update(weight=scale, bias=shift)
        return with_numbers(model, numbers)

    def _affine(
        self,
        key: Key,
        pairs: tuple[NormPair, ...],
        device: torch.device,
        *,
        unmarked: tuple[NormPair, ...] = (),
        learned: bool = False,
    ) -> PassportAffine:
        nets = [
            HiddenNet.learned(pair.channels, key.learned, pair.layer)
            if learned
            else HiddenNet.drawn(pair.channels, key, pair.layer)
            for pair in pairs
            if self.scheme == "pan"
        ]
        marks = [mark.to(device) for mark in draw_marks(key, pairs)]
        return PassportAffine(
            marks,
            nets,
            margin=self.margin,
            canonical=self.reading == "aligned",
            draw=partial(draw_marks, key, pairs),
            unmarked=unmarked,
        )

    def _embed(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key) -> Outcome:
        domain, spec = domains.authorized, domains.input
        assert domain is not None  # needs_authorized
        finished = self.start == "trained"
        kept = unchanged(model, trainer) if finished else labelled
        pairs = chosen_pairs(model, spec.example(), self.layers)
        if finished:
            for pair in pairs:
                lift_filters(model, pair.layer, pair.norm)
        aligned = pairs_up_to(pairs[-1], model, spec.example())
        unmarked = tuple(pair for pair in aligned if pair not in pairs)
        affine = self._affine(key, pairs, trainer.device, unmarked=unmarked)
        norms = [model.get_submodule(pair.norm) for pair in pairs]
        affine.fit(model, [torch.stack([norm.weight, norm.bias]) for norm in norms])  # type: ignore[list-item]
        own = self.scheme != "deepipr-v2"
        net = TwoBranches(model, pairs, affine, spec.example(), own_statistics=own)
        net.branches = "private" if self.scheme == "deepipr-v1" else "both"
        if finished:
            affine.write(model)
        precision = trainer.run.precision
        measured = Measurement(net, affine, domain.val, spec, precision)
        history = trainer.fit(
            net,
            joint_objective(
                net, affine, kept, self.sign_weight, self.joint, 0 if finished else self.steps // 2
            ),
            {
                "train": trainer.batches(
                    domain.train,
                    spec,
                    self.batch_size,
                    "train",
                    augment=Augment(shift=self.shift, flip=self.flip),
                )
            },
            Loop(
                steps=self.steps,
                lr=self.lr,
                schedule="cosine" if finished else "one-cycle",
                evaluate_every=max(1, self.steps // 5),
            ),
            name=self.name,
            validate=measured.validate,
        )
        figures = {**measured.figures(), **measured.forgeries(trainer.run.seed)}
        figures |= {f"bits read in {layer}": share for layer, share in affine.right(model).items()}
        learned = affine.learned() | net.private_statistics()
        facts = {**key.facts, "layers": [asdict(p) for p in pairs], "aligned": [asdict(p) for p in aligned]}
        bound = key.bound(self.name, self.model_dump(mode="json"), facts, learned)
        shipped = net.private() if self.scheme == "deepipr-v1" else model
        return Outcome(shipped, {self.name: history}, figures=figures, key=bound)
