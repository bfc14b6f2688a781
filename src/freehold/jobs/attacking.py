"""``freehold attack``: one attack on a protected run, and what it gives back to a stranger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.artifacts import verify_run
from freehold.attacks.base import Attack
from freehold.attacks.learning_curve import attackers_share
from freehold.config import from_json
from freehold.data.domain import Domain, Domains
from freehold.errors import UsageError
from freehold.jobs.assembly import load_domains, load_shipped
from freehold.metrics.transfer import Evaluation, evaluate


@dataclass(frozen=True)
class AttackReport:
    """A protected run under attack.

    Attributes:
        directory: the run; it stays as it is.
        evaluation: the released model ("before") and the attacked one ("after") on every domain.
        record: of the attack: fields, cost, seed, hashes.
    """

    directory: Path
    evaluation: Evaluation
    record: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "directory": str(self.directory),
            "evaluation": self.evaluation.to_json(),
            "attack": self.record,
        }


def attack(
    directory: str | Path,
    method: Attack,
    *,
    data: str | None = None,
    uri: str | None = None,
    progress: bool = True,
) -> AttackReport:
    """Attack the released model of a run made by ``protect``; nothing secret is handed to the attack.

    Args:
        directory: the run.
        method: the attack with its setting.
        data: what images the attacker has: ``"authorized"``, or the name of an unauthorized domain, of
            which the attacker then gets the validation images; by default what the attack is made for.
        uri: allows a model that the owner's code builds, as ``package.module:factory``.
        progress: show progress on standard error.

    Raises:
        ArtifactError: the run was altered.
        UsageError: the run is none of ``protect``, or has no such domain.
        ProblemsError: the attack cannot run on this model and these images.
    """
    directory = Path(directory)
    run = verify_run(directory)
    if run.get("job") != "protect":
        raise UsageError(
            "holds no protected model", where=str(directory), fix="name a run made by 'freehold protect'"
        )
    config = from_json(run["config"])
    shipped, recipe = load_shipped(directory, uri)
    domains = load_domains(config, recipe.input)
    mine = of_attacker(domains, data or method.prey)
    if config.method is not None:
        method = method.against(config.method.name)
    attacked = method.run(shipped, mine, recipe.input, run=config.run(progress=progress))
    evaluation = evaluate(shipped, attacked.model, domains.comparable())
    return AttackReport(directory, evaluation, {**attacked.record, "data": mine.name})


def of_attacker(domains: Domains, data: str) -> Domain:
    """The images of the attacker; of a closed domain only such as no defender trained on."""
    if data == "authorized" and domains.authorized is not None:
        return domains.authorized
    closed = {d.name: d for d in domains.unauthorized}
    if data == "unauthorized" and closed:
        return attackers_share(next(iter(closed.values())))
    if data in closed:
        return attackers_share(closed[data])
    known = ["authorized"] * (domains.authorized is not None) + list(closed)
    raise UsageError(
        f"the run has no domain {data!r}", where="data", fix="one of: " + (", ".join(known) or "none")
    )
