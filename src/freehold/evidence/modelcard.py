"""The model card of a release: a Hugging Face README whose section on protection follows from the run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from freehold.config import from_json
from freehold.evidence.released import Release
from freehold.metrics.accuracy import Accuracy
from freehold.metrics.transfer import DomainResult, Evaluation
from freehold.models.recipe import Recipe
from freehold.ownership.base import OwnershipMethod
from freehold.ownership.verdict import ABSENCE, EVIDENCE
from freehold.protection import Protection, versions
from freehold.report.numbers import between, fixed, interval, percent, small

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def model_card(run: Path, about: Mapping[str, Any], recipe: Recipe, release: Release, license: str) -> str:
    """The text of ``README.md``.

    Every name out of the run is escaped: it shows as it is and is never markup.

    Args:
        run: the finished run, its metrics.
        about: its ``run.json``.
        recipe: of the model.
        release: what was exported; its folder's name is the model's.
        license: for the head.
    """
    metrics = json.loads((run / "metrics.json").read_bytes())
    method = from_json(about["config"]).method if about["job"] != "train" else None
    accuracies, rows = _measured(metrics)
    licensed = next((name for name, role, _ in accuracies if role == "authorized"), "")
    facts = {
        "head": _head(release.directory.name, method, accuracies, license),
        "name": release.directory.name,
        "summary": metrics.get("summary", ()),
        "takes": _takes(recipe),
        "classes": recipe.classes,
        "onnx": release.difference is not None,
        "difference": small(release.difference) if release.difference else "nothing",
        "int8": release.int8,
        "method": method and method.card,
        "kind": method and method.kind,
        "owner": about["identity"].get("owner", ""),
        "licensed": licensed,
        "rows": rows,
        "claims": metrics.get("claims", ()),
        "breaks": method.card.breaks if method else (),
        "commitment": about.get("commitment", ""),
        "access": method.access.name.lower() if isinstance(method, OwnershipMethod) else "",
        "marks": release.marks,
        "signer": release.signer,
        "evidence": EVIDENCE,
        "absence": ABSENCE,
        "versions": [f"{name} {number}" for name, number in versions().items()],
    }
    return _template().render(facts)


def _measured(metrics: Mapping[str, Any]) -> tuple[list[tuple[str, str, Accuracy]], list[list[str]]]:
    """Name, role and accuracy of every domain, and the same as rows of the table."""
    if "accuracies" in metrics:
        found = {name: Accuracy.model_validate(value) for name, value in metrics["accuracies"].items()}
        roles = ["authorized", *["unauthorized"] * len(found)]
        plain = [(name, role, right) for (name, right), role in zip(found.items(), roles, strict=False)]
        return plain, [[_md(name), role, *_right(right), str(right.n)] for name, role, right in plain]
    evaluation = Evaluation.model_validate(metrics["evaluation"])
    named = [(d.name, d.role, d.after) for d in evaluation.domains]
    return [(n, str(r), a) for n, r, a in named], [_row(d) for d in evaluation.domains]


def _row(result: DomainResult) -> list[str]:
    drop = between(100 * result.drop_low, 100 * result.drop_high)
    figures = [percent(result.before.value), *_right(result.after), fixed(100 * result.drop, 1), drop]
    return [_md(result.name), result.role, *figures, str(result.after.n)]


def _right(accuracy: Accuracy) -> list[str]:
    return [percent(accuracy.value), interval(accuracy.low, accuracy.high)]


def _takes(recipe: Recipe) -> str:
    spec, model = recipe.input, recipe.model
    height, width = spec.size
    kind = "grey" if spec.channels == 1 else "RGB"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    built = f"A classifier ({model.uri}) of" if model else "A classifier of"
    return f"{built} {height} × {width} {kind} images, pixels as (value / 255 − [{mean}]) / [{std}]."


def _head(
    name: str, method: Protection | None, accuracies: list[tuple[str, str, Accuracy]], license: str
) -> str:
    """The front matter. JSON is YAML, so each value is written as JSON and nothing can break out of it."""
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": domain, "type": domain, "split": "test"},
            "metrics": [{"type": "accuracy", "value": right.value, "name": f"accuracy, {role} domain"}],
        }
        for domain, role, right in accuracies
    ]
    head = {
        "license": license,
        "library_name": "freehold",
        "pipeline_tag": "image-classification",
        "tags": ["freehold", "pytorch", *([method.name, method.kind] if method else [])],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": results}],
    }
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())


class _Raw(str):
    """Text that is Markdown already."""


def _md(value: Any) -> str:
    """A value as Markdown that shows it as it is, on one line."""
    if isinstance(value, _Raw):
        return value
    text = " ".join(str(value).split())
    return _Raw(_MARKDOWN.sub(r"\\\1", "".join(c for c in text if c.isprintable())))


def _share(accuracy: Accuracy) -> _Raw:
    return _Raw(f"{percent(accuracy.value)} ({interval(accuracy.low, accuracy.high)})")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("freehold.evidence"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        finalize=_md,
        autoescape=False,  # it is Markdown, which _md escapes
    )
    environment.filters |= {"raw": _Raw, "share": _share}
    return environment.get_template("model_card.md")
