"""What the owner pays and what the unauthorized user keeps: drops, ST-D, overall score.

Accuracies and drops are shares in ``[0, 1]``; a drop of 0.02 is shown to people as 2 points.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr
from torch import Tensor, nn

from freehold.data.domain import Domain, Domains
from freehold.errors import DataError
from freehold.metrics.accuracy import Accuracy, predict
from freehold.statistics import paired_difference

UNSTABLE = 1e-3  # relative target drops below this make a ratio meaningless


class DomainResult(BaseModel):
    """One domain before and after protection, on the same test images.

    Attributes:
        drop: accuracy before minus after; negative if it rose.
        drop_low: lower end of the drop's 95 % interval, from the paired predictions.
        drop_high: upper end.
        chance: accuracy of guessing, 1 / number of classes.
        majority: accuracy of always answering the commonest class of these images.
        corrected: accuracy after, rescaled so that chance is 0 and perfect is 1.
        transferred: the accuracy before was above chance beyond doubt; where it was not, a
            protection has nothing to close and proves nothing.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    role: Literal["authorized", "unauthorized"]
    before: Accuracy
    after: Accuracy
    drop: float
    drop_low: float
    drop_high: float
    chance: float
    majority: float
    corrected: float
    transferred: bool


class SourceTargetDrop(BaseModel):
    """ST-D: relative source drop over mean relative target drop; lower is better.

    The dossier of MAP (CVPR 2024) gives the published averages, which fit this definition and are
    signed: a source accuracy that rises gives a negative value.

    Attributes:
        value: the signed ratio; ``inf`` when the target did not drop although the source did;
            ``nan`` when neither dropped.
        clipped: the same with a rise of the source counted as 0.
        flags: sentences that have to be read with the value.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    clipped: float
    flags: tuple[str, ...] = ()


class Evaluation(BaseModel):
    """Everything measured about one protected model.

    Attributes:
        domains: results, the authorized domain first.
        source_drop: drop on the authorized domain, None without one.
        target_drop: mean drop over the unauthorized domains, None without any.
        relative_source_drop: ``source_drop`` over the accuracy before.
        relative_target_drop: mean over targets of drop over accuracy before.
        st_d: None unless both drops are known.
        overall: (source accuracy + 1 - mean target accuracy) / 2 after protection.
        notes: what a reader has to know about these figures.
    """

    model_config = ConfigDict(frozen=True)

    domains: tuple[DomainResult, ...]
    source_drop: float | None
    target_drop: float | None
    relative_source_drop: float | None
    relative_target_drop: float | None
    st_d: SourceTargetDrop | None
    overall: float | None
    notes: tuple[str, ...] = ()

    _predictions: dict[str, tuple[Tensor, Tensor]] = PrivateAttr(default_factory=dict)

    def predictions(self, domain: str) -> tuple[Tensor, Tensor]:
        """Predicted classes before and after, int64 ``(N,)``, for the test images of ``domain``."""
        return self._predictions[domain]

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data; numbers that JSON lacks become ``"inf"``, ``"-inf"`` or ``"nan"``."""
        data: dict[str, Any] = self.model_dump()
        if self.st_d:
            data["st_d"] |= {k: _json(v) for k, v in data["st_d"].items() if isinstance(v, float)}
        return data

    def __str__(self) -> str:
        width = max(len(d.name) for d in self.domains)
        lines = [
            f"{d.name:<{width}}  {d.role:<12}  {d.before.value:6.1%} -> {d.after.value:6.1%} "
            f"[{d.after.low:.1%}, {d.after.high:.1%}]  drop {100 * d.drop:+.1f} points"
            for d in self.domains
        ]
        if self.st_d:
            lines.append(f"ST-D {self.st_d.value:.4f}" + "".join(f"; {flag}" for flag in self.st_d.flags))
        return "\n".join(lines)


def source_target_drop(source: tuple[float, float], targets: list[tuple[float, float]]) -> SourceTargetDrop:
    """ST-D from accuracies before and after.

    Args:
        source: accuracy on the authorized domain before and after, in ``[0, 1]``.
        targets: the same for each unauthorized domain; the denominator is the mean of their
            relative drops, not the mean of ratios.

    Raises:
        DataError: no target, an accuracy that is no share, or one that was 0 before.
    """
    for before, after in [source, *targets]:
        if not (0 < before <= 1 and 0 <= after <= 1):
            raise DataError(
                f"accuracies {before} -> {after}", where="ST-D", fix="need 0 < before <= 1, 0 <= after <= 1"
            )
    if not targets:
        raise DataError("no unauthorized domain", where="ST-D")
    numerator = (source[0] - source[1]) / source[0]
    denominator = math.fsum((before - after) / before for before, after in targets) / len(targets)
    if denominator <= 0:
        worst = math.inf if numerator > 0 else math.nan
        return SourceTargetDrop(value=worst, clipped=worst, flags=("no protection: the target did not drop",))
    flags = []
    if numerator < 0:
        flags.append("the source accuracy rose")
    if denominator < UNSTABLE:
        flags.append("unstable: the target hardly dropped")
    value = numerator / denominator
    return SourceTargetDrop(value=value, clipped=max(value, 0.0), flags=tuple(flags))


def evaluate(before: nn.Module, after: nn.Module, domains: Domains, *, precision: str = "fp32") -> Evaluation:
    """Measure both models on the test split of every domain.

    Args:
        before: the unprotected model.
        after: the protected one; same classes.
        domains: at least one.
        precision: ``"bf16"`` for speed; figures then move in the last digit.

    Raises:
        ModelError: a model answers NaN or infinity.
        DataError: no domain, or two with different classes, where an accuracy would mean nothing.
    """
    if fault := domains.mismatch():
        raise fault
    if not domains.all():
        raise DataError("no domain to measure on", where="domains", fix="give at least one")
    predictions = {
        d.name: (
            predict(before, d.test, domains.input, precision=precision).cpu(),
            predict(after, d.test, domains.input, precision=precision).cpu(),
        )
        for d in domains.all()
    }
    return summarise(domains, predictions)


def summarise(domains: Domains, predictions: dict[str, tuple[Tensor, Tensor]]) -> Evaluation:
    """The figures that follow from the predicted classes before and after, per domain name."""
    results = tuple(_result(d, d is domains.authorized, *predictions[d.name]) for d in domains.all())
    source = next((r for r in results if r.role == "authorized"), None)
    targets = [r for r in results if r.role == "unauthorized"]
    relative = [r.drop / r.before.value for r in targets if r.before.correct]
    measurable = source is not None and source.before.correct > 0 and len(relative) == len(targets) > 0
    evaluation = Evaluation(
        domains=results,
        source_drop=source.drop if source else None,
        target_drop=_mean([r.drop for r in targets]),
        relative_source_drop=source.drop / source.before.value if source and source.before.correct else None,
        relative_target_drop=_mean(relative),
        st_d=source_target_drop(
            (source.before.value, source.after.value), [(t.before.value, t.after.value) for t in targets]
        )
        if source and measurable
        else None,
        overall=(source.after.value + 1 - math.fsum(t.after.value for t in targets) / len(targets)) / 2
        if source and targets
        else None,
        notes=tuple(
            f"{r.name}: the unprotected model was not above chance here, so its protection shows nothing"
            for r in targets
            if not r.transferred
        ),
    )
    evaluation._predictions = predictions
    return evaluation


def _result(domain: Domain, authorized: bool, before: Tensor, after: Tensor) -> DomainResult:
    labels = domain.test.labels
    n = len(labels)
    was, is_ = before == labels, after == labels
    first, second = Accuracy.of(int(was.sum()), n), Accuracy.of(int(is_.sum()), n)
    drop = paired_difference(int((was & ~is_).sum()), int((is_ & ~was).sum()), n)
    chance = 1 / domain.num_classes
    majority = float(labels.bincount().max()) / n
    return DomainResult(
        name=domain.name,
        role="authorized" if authorized else "unauthorized",
        before=first,
        after=second,
        drop=first.value - second.value,
        drop_low=drop.low,
        drop_high=drop.high,
        chance=chance,
        majority=majority,
        corrected=(second.value - chance) / (1 - chance),
        transferred=first.low > max(chance, majority),
    )


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
