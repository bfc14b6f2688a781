"""The account of a protection for people: three sentences, and the data of its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from freehold import report
from freehold.config import Config
from freehold.data.domain import Domain, Domains
from freehold.jobs.learning import Learned
from freehold.metrics.transfer import DomainResult, Evaluation
from freehold.models.checkpoint import Recipe
from freehold.protection import Protection
from freehold.report.numbers import between, count, interval, percent, points

SAMPLES = 12  # images shown of each domain
Kept = Mapping[str, tuple[int, int]]
Histories = Mapping[str, Mapping[str, Any]]


def sentences(
    method: Protection,
    recipe: Recipe,
    evaluation: Evaluation,
    kept: Kept,
    domains: Domains,
    *,
    retrained: bool,
) -> tuple[str, ...]:
    """What was protected; what the owner keeps and pays; what a stranger gets; what is left open."""
    by_role: dict[str, list[DomainResult]] = {"authorized": [], "unauthorized": []}
    for result in evaluation.domains:
        by_role[result.role].append(result)
    owners, others = by_role["authorized"], by_role["unauthorized"]
    model = f"the model {recipe.model.uri}" if recipe.model else "the model"
    done = f"bound {model} to {owners[0].name}" if owners else f"bound {model}"
    if others:
        done += f" and closed {_listed([o.name for o in others])} to it"
    if kept:
        total = sum(pair[1] for pair in kept.values())
        cut = total - sum(pair[0] for pair in kept.values())
        rest = "retraining the others" if retrained else "changing no other"
        done += f", by cutting {percent(cut / total)} of its weights and {rest}"
    return (
        f"{type(method).__name__} {done}.",
        owners_sentence(owners[0])
        if owners
        else "There is no authorized domain, so what the owner pays is unknown: give 'freehold evaluate' "
        "as few authorized images as you can spare (--authorized), and it says what they show.",
        " ".join(map(_stranger, others))
        or "There is no unauthorized domain, so nothing shows what a stranger gets.",
        *(
            f"{d.name} has other classes than the model, so it has no accuracy; learning curves measure it."
            for d in domains.unauthorized
            if d.name not in {o.name for o in others}
        ),
    )


def owners_sentence(result: DomainResult) -> str:
    """What the owner keeps, and the price."""
    before, after, drop = result.before, result.after, 100 * result.drop
    price = f"{'a price' if drop >= 0 else 'a gain'} of {points(abs(drop))}"
    bounds = between(100 * result.drop_low, 100 * result.drop_high)
    return (
        f"On {result.name} the owner keeps {percent(after.value)} of {count(after.n)} test images right "
        f"(95 % interval {interval(after.low, after.high)}) against {percent(before.value)} before: "
        f"{price} (interval of the drop {bounds})."
    )


def _stranger(result: DomainResult) -> str:
    before, after = result.before, result.after
    text = (
        f"On {result.name} an unauthorized user gets {percent(after.value)} "
        f"(95 % interval {interval(after.low, after.high)}) instead of {percent(before.value)}; "
        f"guessing gives {percent(result.chance)}"
    )
    return text + (
        "." if result.transferred else ", and the unprotected model did not do better, so this shows nothing."
    )


def build_page(
    config: Config,
    evaluation: Evaluation,
    domains: Domains,
    summary: tuple[str, ...],
    record: Mapping[str, Any],
    histories: Histories,
    kept: Kept,
    images: Mapping[str, Tensor],
    learned: Sequence[Learned] = (),
) -> report.PageData:
    """Everything on the page of a protected run.

    Args:
        config: with a method.
        evaluation: holds the predictions for the sample images.
        domains: those that were measured.
        summary: sentences to open with.
        record: of the ``Protected``.
        histories: its training curves, by the name of the fit.
        kept: kept and total weights by masked tensor.
        images: uint8 ``(n, C, H, W)`` that the method made, by what they are.
        learned: learning curves, if they were measured.
    """
    method = config.method
    marks = method is not None and method.kind == "ownership"
    names = [d.name for d in domains.all()] or ["a model without data"]
    return report.PageData(
        title=f"{names[0]}, {'marked' if marks else 'bound'} by {type(method).__name__}",
        summary=summary,
        method=str(record["method"]),
        card=report.MethodCard(**method.card.model_dump()) if method else report.MethodCard("", "", ""),
        parameters=_parameters(method) if method else {},
        domains=[
            _domain(evaluation, result, domain)
            for result, domain in zip(evaluation.domains, domains.all(), strict=True)
        ],
        transfer=None if marks else _transfer(evaluation),
        layers=[report.Layer(name.removesuffix(".weight"), *pair) for name, pair in kept.items()],
        curves=_curves(histories),
        gallery={title: [i.permute(1, 2, 0).numpy() for i in shown] for title, shown in images.items()},
        learning=[found.for_page() for found in learned],
        configuration=config.to_toml(),
        versions=record["versions"],
        record=[_origin(domain) for domain in domains.all()],
        notes=[*evaluation.notes, *record["notes"]],
        duration=record["seconds"],
    )


def _transfer(evaluation: Evaluation) -> report.Transfer:
    st_d = evaluation.st_d
    return report.Transfer(
        source_drop=_points(evaluation.source_drop),
        target_drop=_points(evaluation.target_drop),
        source_relative=_or_nan(evaluation.relative_source_drop),
        target_relative=_or_nan(evaluation.relative_target_drop),
        st_d=st_d.value if st_d else math.nan,
        overall=_points(evaluation.overall),
        flags=st_d.flags if st_d else (),
    )


def _parameters(method: Protection) -> dict[str, report.Parameter]:
    return {
        f.name: report.Parameter(getattr(method, f.name), f.default, f.unit, f.range, f.description)
        for f in method.fields()
    }


def _domain(evaluation: Evaluation, result: DomainResult, domain: Domain) -> report.DomainResult:
    before, after = evaluation.predictions(result.name)
    rows = torch.linspace(0, len(domain.test) - 1, min(SAMPLES, len(domain.test))).long().tolist()
    return report.DomainResult(
        name=result.name,
        role=result.role,
        images=result.after.n,
        before=report.Accuracy(result.before.value, result.before.low, result.before.high),
        after=report.Accuracy(result.after.value, result.after.low, result.after.high),
        chance=result.chance,
        corrected=result.corrected,
        drop_interval=(100 * result.drop_low, 100 * result.drop_high),
        samples=[
            report.Sample(
                domain.test.images[row].permute(1, 2, 0).numpy(),
                *(domain.classes[int(answer[row])] for answer in (domain.test.labels, before, after)),
            )
            for row in rows
        ],
    )


def _curves(histories: Histories) -> list[report.Curve]:
    curves = []
    for name, history in histories.items():
        for term, values in history["terms"].items():
            panel = f"{name}: {_measure(term)}"
            curves.append(report.Curve(panel, term, history["steps"], values, role=_role(term)))
        checks = history["validation"]
        for figure in [key for key in (checks[0] if checks else {}) if key not in ("step", "score")]:
            steps, values = [c["step"] for c in checks], [c[figure] for c in checks]
            curves.append(report.Curve(f"{name}: validation", figure, steps, values, role=_role(figure)))
    return curves


def _measure(term: str) -> str:
    """What is on the axis: losses share one, residuals of a split and the state of a gate have their own."""
    return next((kind for kind in ("residual", "gate") if kind in term), "loss")


def _role(series: str) -> report.Role | None:
    return "authorized" if "source" in series else "unauthorized" if "target" in series else None


def _origin(domain: Domain) -> str:
    record = domain.record
    sizes = ", ".join(f"{count(size)} {split}" for split, size in record["sizes"].items())
    splits = record.get("splits", "")
    if isinstance(splits, Mapping):
        splits = "; ".join(f"{split}: {how}" for split, how in splits.items())
    return ". ".join(
        filter(
            None,
            [f"{domain.name}: {record.get('source', 'given from Python')}", f"{sizes} images", str(splits)],
        )
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _points(share: float | None) -> float:
    return 100 * _or_nan(share)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
