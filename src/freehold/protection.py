"""What every protection is: checks first, the algorithm on a copy, a record of what was done."""

from __future__ import annotations

import copy
import json
import logging
import platform
import time
from abc import abstractmethod
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from freehold.data.domain import Domains
from freehold.errors import ModelError, ProblemsError, UsageError
from freehold.keys.key import Key
from freehold.models.anatomy import dry_run
from freehold.models.checkpoint import Edit, Recipe, save_checkpoint
from freehold.models.weights import state_hash, unwrap
from freehold.plugin import Plugin, Problem
from freehold.training import History, Run, Trainer

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What an algorithm gives back.

    Attributes:
        model: the protected model, a plain architecture but for ``edits``.
        histories: training curves by the name of the fit.
        mask: which weights are kept, for methods that prune.
        images: uint8 ``(n, C, H, W)`` a few of the images the method made, by what they are.
        notes: what the user has to know about this result.
        retrained: whether kept weights were changed; if not, ``mask + original weights`` is the model.
        edits: what was changed in the architecture, to be replayed when the model is loaded.
    """

    model: nn.Module
    histories: dict[str, History] = field(default_factory=dict)
    mask: dict[str, Tensor] | None = None
    images: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    key: Key | None = None
    retrained: bool = False
    edits: tuple[Edit, ...] = ()


@dataclass
class Protected:
    """A model that is ready to ship, and the account of how it came about.

    Attributes:
        model: the protected model, on the CPU, in evaluation mode.
        record: JSON-able: method, hyper-parameters, seed, time, versions, hashes, curves, notes.
        mask: boolean masks by weight name, or None; True is kept.
        images: uint8 ``(n, C, H, W)``, a few of the images that the method made, by what they are.
        key: what is secret and needed to verify; None for authorization methods.
        edits: what was changed in the architecture; part of the recipe that is saved.
    """

    model: nn.Module
    record: dict[str, Any]
    mask: dict[str, Tensor] | None = None
    images: dict[str, Tensor] = field(default_factory=dict)
    key: Key | None = None
    edits: tuple[Edit, ...] = ()

    def kept(self) -> dict[str, tuple[int, int]]:
        """Kept and total weights of each masked tensor."""
        return {name: (int(mask.sum()), mask.numel()) for name, mask in (self.mask or {}).items()}

    def save(self, directory: Path | str, recipe: Recipe) -> None:
        """Write weights and recipe, and the mask if it makes this model out of the original one.

        Args:
            directory: where to.
            recipe: of the model as it was handed in; the method's edits are added.

        Raises:
            OutputError: the folder cannot be written.
        """
        mask = None if self.record["retrained"] else self.mask
        base = self.record["source_hash"] if mask is not None else None
        edited = recipe.model_copy(update={"edits": (*recipe.edits, *self.edits)})
        save_checkpoint(Path(directory), self.model, edited, mask=mask, mask_base=base)


class Protection(Plugin):
    """Base of all methods. Subclasses give the algorithm; checking and recording are done here."""

    same_classes: ClassVar[bool] = True  # of all domains; False where each domain gets a head of its own

    @property
    def needs_authorized(self) -> bool:
        """Whether the algorithm looks at authorized images; if not, it is never handed any."""
        return True

    @property
    def needs_unauthorized(self) -> bool:
        """Whether the algorithm looks at unauthorized images; if not, it is never handed any."""
        return True

    def _seen(self, domains: Domains) -> Domains:
        """The part of ``domains`` that the algorithm gets to see."""
        return Domains(
            domains.authorized if self.needs_authorized else None,
            domains.unauthorized if self.needs_unauthorized else (),
            domains.input,
        )

    @final
    def problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        """Every reason why this cannot run, found without training; empty if it can."""
        found = []
        if self.needs_authorized and domains.authorized is None:
            found.append(
                Problem(
                    where="authorized", what="this method learns from authorized images", fix="give a domain"
                )
            )
        if self.needs_unauthorized and not domains.unauthorized:
            found.append(Problem(where="unauthorized", what="no domain to close", fix="give at least one"))
        bad = [n for n, t in model.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]
        if bad:
            found.append(
                Problem(
                    where=bad[0], what="the model holds NaN or infinity", fix="repair or retrain the model"
                )
            )
        if self.same_classes and (fault := domains.mismatch()):
            found.append(Problem(where=fault.where, what=fault.what, fix=fault.fix))
        found += _dry_run(model, domains)
        return found or list(self._problems(unwrap(model), self._seen(domains)))

    def _problems(self, model: nn.Module, domains: Domains) -> list[Problem]:
        """What only this method cannot cope with."""
        return []

    def _key(self, key: Key | None, model: nn.Module, domains: Domains) -> Key | None:
        """The key to work with; only ownership methods have one."""
        if key is not None:
            raise UsageError("this method keeps no secret", where=self.name, fix="leave out the key")
        return None

    @final
    def protect(
        self, model: nn.Module, domains: Domains, *, run: Run | None = None, key: Key | None = None
    ) -> Protected:
        """Protect a copy of ``model``; the caller's model stays as it is.

        Args:
            model: any classifier from images ``(B, C, H, W)`` to logits ``(B, K)``.
            domains: where it may work and where it must not.
            run: device, precision, seed and place of resumable state.
            key: of ownership methods, the secret to mark with; a new one is born if none is given.

        Raises:
            ProblemsError: with every reason at once, before any work.
            TrainingError: the loss became NaN or infinite.
            UsageError: a key for a method that keeps no secret.
        """
        problems = self.problems(model, domains)
        if problems:
            raise ProblemsError(self.name, problems)
        run = run or Run()
        subject = _copied(unwrap(model))
        source_hash = state_hash(subject)
        key = self._key(key, subject, domains)
        work = [self.name, self.model_dump(mode="json"), source_hash, *([key.commitment] if key else [])]
        identity = json.dumps(work, sort_keys=True)
        trainer = Trainer(run, identity)
        began = time.monotonic()
        seen = self._seen(domains)
        outcome = self._apply(subject.to(trainer.device), seen, trainer, key)
        seconds = time.monotonic() - began
        shipped = outcome.model.eval().to("cpu").to(memory_format=torch.contiguous_format)
        shipped.requires_grad_(True)
        record = {
            "method": self.name,
            "fields": self.model_dump(mode="json"),
            "seed": run.seed,
            "seconds": seconds,
            "device": str(trainer.device),
            "precision": run.precision,
            "source_hash": source_hash,
            "retrained": outcome.retrained,
            "shipped_hash": state_hash(shipped),
            "histories": {name: history.to_json() for name, history in outcome.histories.items()},
            "figures": outcome.figures,
            "notes": list(outcome.notes),
            "seen": [d.name for d in seen.all()],
            "domains": {d.name: dict(d.record) for d in domains.all()},
            "versions": versions(),
        }
        sealed = outcome.key and outcome.key.released(state_hash(shipped))
        if sealed is not None:
            record["commitment"] = sealed.commitment
        mask = {name: m.cpu() for name, m in outcome.mask.items()} if outcome.mask is not None else None
        images = {name: shown.cpu() for name, shown in outcome.images.items()}
        return Protected(shipped, record, mask, images, sealed, outcome.edits)

    def _apply(self, model: nn.Module, domains: Domains, trainer: Trainer, key: Key | None) -> Outcome:
        """Run the algorithm; ownership methods hand it the key."""
        return self._protect(model, domains, trainer)

    @abstractmethod
    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        """The algorithm.

        ``model`` is a copy of the caller's, on the trainer's device, free to change; ``domains`` holds
        nothing that the method says it does without.
        """


def versions() -> dict[str, str]:
    """What a result depends on: this package, Python, torch and the machine's kind."""
    return {
        "freehold": version("freehold"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def _copied(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"cannot be copied: {error}", where="model", fix="detach tensors kept as plain attributes"
        ) from error
    return copied.requires_grad_(True)


def _dry_run(model: nn.Module, domains: Domains) -> list[Problem]:
    """One forward pass of two blank images: the input must fit, the answer must be ``(2, K)``."""
    if next(model.parameters(), None) is None:
        return [Problem(where="model", what="has no parameters", fix="give a trained network")]
    try:
        classes = dry_run(model, domains.input.example()).shape[1]
    except ModelError as error:
        return [Problem(where="model", what=error.what, fix=error.fix)]
    if domains.all() and classes != domains.num_classes:
        what = f"gives {classes} logits and the domains have {domains.num_classes} classes"
        return [Problem(where="model", what=what, fix="match the number of classes")]
    return []
