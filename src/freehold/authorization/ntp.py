"""NTP: non-transferable pruning (Ding et al., ECCV 2024): prune so that the target cannot be learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from freehold.authorization.admm import Masks, Projection, Scope, keep_counts, keep_largest
from freehold.authorization.ntp_fits import Match
from freehold.authorization.ntp_reference import reference
from freehold.authorization.targets import target_of, target_problems
from freehold.data.domain import Domains
from freehold.errors import ModelError, UsageError
from freehold.models.anatomy import Tap, dry_run, find_head, maskable_weights
from freehold.models.channels import (
    Unit,
    channel_masks,
    channel_units,
    equal_width,
    saliency,
    shrink,
    widen,
)
from freehold.models.rescale import stiffen
from freehold.models.zeros import held_at_zero
from freehold.plugin import Card, Problem
from freehold.protection import Outcome, Protection
from freehold.training import Trainer

CHANNEL_FLOOR = 4  # no layer becomes narrower


class NTP(Protection):
    """Prunes most of a network so that what is left serves the source and is a bad start for the target."""

    name = "ntp"
    kind = "authorization"
    same_classes: ClassVar[bool] = False
    card: ClassVar[Card] = Card(
        title="NTP, non-transferable pruning",
        paper="Non-transferable Pruning",
        venue="ECCV 2024",
        identifier="arXiv:2410.08015",
        goal="Leave a sparse network that does its own task and is a worse start than none for another.",
        changed=(
            "the sparsity is met exactly by projection; the reference code soft-thresholds and stops when it "
            "happens to be sparse enough",
            "the penalty is the squared distance with a growing weight; whole channels may be pruned, which "
            "cannot grow back",
            "target images pass through batch statistics, as an attacker's would, and leave the running ones "
            "alone",
            "the target head learns along instead of being fitted once, and reads features of unit scale",
            "a simulated attacker that fine-tunes a copy, restarted every few steps",
            "where the target has the source's classes, the model's own head is closed to it as well: an "
            "attacker who keeps that head otherwise starts far ahead",
            "target terms act only while the source is learned well enough, steered by held-out accuracy; "
            "the kept state is the last that loses no more than the tolerance",
            "after pruning the remaining weights are retrained with the same terms",
        ),
        undisclosed=(
            "the paper's body was not available to us: the mode 'reference' follows its published code",
            "all defaults of the mode 'standard' are ours",
        ),
        needs=("labelled source images", "target images, labelled unless target_labels is 'predicted'"),
        breaks=(
            "scattered zeros: an attacker who lets pruned weights grow back regains most of the transfer",
            "resetting norm layers and re-initialising zeros makes the model an ordinary untrained one",
            "patience or a larger learning rate closes part of the gap",
            "figures under the published attacker (Adam 1e-4, 30 epochs) measure his short training, not the "
            "protection",
            "the lock is an obfuscation: rescaling each layer takes it off",
        ),
    )

    granularity: Literal["channel", "weight"] = Field(
        "channel", description="what is pruned: whole channels, which cannot grow back, or single weights"
    )
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="share of trunk weights made zero; 0.985 by channels, 0.95 by weights"
    )
    scope: Scope = Field(
        "global", description="weights: over which set the largest are kept; channels: one width for all"
    )
    mode: Literal["standard", "reference"] = Field(
        "standard", description="ours, or the published code step by step"
    )
    target_labels: Literal["given", "predicted"] = Field(
        "given", description="predicted: the unprotected model's answers, for unlabelled targets (ours)"
    )
    alpha: float = Field(1.0, ge=0, le=1000, description="weight of being unreadable by a linear head")
    fisher: float = Field(10.0, ge=0, le=1000, description="lambda: weight of inseparable target classes")
    rivalry: float = Field(1.0, ge=0, le=1000, description="sigma: weight of the simulated attacker")
    bound: float = Field(
        10.0, gt=0, le=100, description="target loss that counts at most", json_schema_extra={"unit": "nats"}
    )
    horizon: int = Field(
        40, ge=1, le=10_000, description="steps of a simulated attack", json_schema_extra={"unit": "steps"}
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of source images that may be lost, on validation images; 0.02 by channels, 0.01 "
        "by weights",
    )
    outer: int = Field(6, ge=1, le=1000, description="ADMM: projections")
    inner: int = Field(
        30, ge=1, le=100_000, description="ADMM: between projections", json_schema_extra={"unit": "steps"}
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="after pruning; 2000 by channels, which are cut out meanwhile, 600 by weights",
        json_schema_extra={"unit": "steps"},
    )
    lr: float = Field(
        1e-3, gt=0, le=1, description="Adam; cut-out channels are retrained at three times that"
    )
    batch_size: int = Field(
        64,
        ge=4,
        le=65536,
        description="a domain; a target that has fewer is passed several times",
        json_schema_extra={"unit": "images"},
    )
    lock: bool = Field(
        False, description="rescale layers so that fine-tuning hardly moves them; an obfuscation"
    )

    @property
    def length(self) -> int:
        """The steps asked for, or the default of the granularity."""
        return self.steps or (2000 if self.granularity == "channel" else 600)

    @property
    def share(self) -> float:
        """The sparsity asked for, or the default of the granularity."""
        return self.sparsity or (0.985 if self.granularity == "channel" else 0.95)

    @property
    def allowed(self) -> float:
        """The tolerance asked for, or the default of the granularity."""
        return self.tolerance or (0.02 if self.granularity == "channel" else 0.01)

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        found = target_problems(domains)
        try:
            example = domains.input.example()
            head = find_head(model, example)
            with Tap(model, head, "input") as tap:
                dry_run(model, example)
            names = tuple(maskable_weights(model, (head,)))
            if tap.value.dim() != 2:
                what = f"the head reads features of shape {list(tap.value.shape)}, not one vector an image"
                found.append(Problem(where=head, what=what, fix="pool before the last layer"))
            elif not names:
                found.append(Problem(where="model", what="is only a head: nothing to prune"))
            elif self.mode == "reference":
                pass  # its threshold, not the sparsity asked for, decides what becomes zero
            elif self.granularity == "channel":
                equal_width(model, channel_units(model, example), names, self.share, CHANNEL_FLOOR)
            else:
                keep_counts({n: model.get_parameter(n).shape for n in names}, self.share, self.scope)
        except (ModelError, UsageError) as error:
            found.append(Problem(where=error.where or "model", what=error.what, fix=error.fix))
        return found

    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        example = domains.input.example().to(trainer.device)
        labelled = self.target_labels == "given"
        target = target_of(model, domains, predicted=not labelled, precision=trainer.run.precision)
        head = find_head(model, example)
        if self.mode == "reference":
            return reference(self, model, head, target, domains, trainer)
        match = Match(self, model, head, target, domains, trainer)
        names = tuple(maskable_weights(model, (head,)))
        units = channel_units(model, example) if self.granularity == "channel" else ()
        first, masks = match.split(
            {n: model.get_parameter(n) for n in names}, self._projection(model, units, names)
        )
        # Channels are cut out for the retraining, which makes it several times faster, and come back as
        # zeros. Single weights are held at zero.
        live = {u.layer: masks[f"{u.layer}.weight"].flatten(1).any(1) for u in units}
        shrink(model, units, live)
        zeros = {} if units else {model.get_parameter(name): mask for name, mask in masks.items()}
        with held_at_zero(zeros):
            recovery, second = match.recover(), match.retrain(zeros)
        widen(model, units, live)
        if self.lock:
            stiffen(model, example)
        histories = {"ntp-admm": first, "ntp-recovery": recovery, "ntp": second}
        return Outcome(model, histories, masks, retrained=True, notes=match.notes(second))

    def _projection(self, model: nn.Module, units: Sequence[Unit], names: Sequence[str]) -> Projection:
        """Masks of the nearest sparse weights."""
        if not units:
            return lambda values: keep_largest(values, self.share, self.scope)
        width = equal_width(model, units, names, self.share, CHANNEL_FLOOR)

        def masks(values: Mapping[str, Tensor]) -> Masks:
            best = {u.layer: saliency(model, u, values) for u in units}
            live = {n: s.argsort(descending=True).argsort() < width for n, s in best.items()}
            return channel_masks(model, units, live)

        return masks
