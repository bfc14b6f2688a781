"""Overwriting: the thief protects the stolen model once more, with the same method and a key of his own."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field
from torch import nn

from freehold.attacks.base import Attack, Taken
from freehold.data.domain import Domain, Domains, InputSpec
from freehold.errors import UsageError
from freehold.keys import Key
from freehold.plugin import Card, Problem, find
from freehold.protection import Protection
from freehold.seeds import derive
from freehold.training import Trainer


class Overwrite(Attack):
    """Marks the stolen model as its own owner would, in the hope that the first mark gives way.

    The method is looked up in the registry by its name, as everything that plugs in is: nothing here
    knows any of them.
    """

    name = "overwrite"
    card: ClassVar[Card] = Card(
        title="Overwriting with the same scheme",
        paper="SoK: How Robust is Image Classification Deep Neural Network Watermarking?",
        venue="IEEE S&P 2022",
        goal="Write a second mark over the first: it may be lost, and the thief has one to show.",
        changed=("true labels; the publication's attacker has those that the stolen model gives",),
        undisclosed=("length: the method's own by default; publications spend a tenth of it or less",),
        needs=("weights", "labelled images", "to know which method was used"),
        breaks=("a commitment that was published first: both marks are there, and dates decide",),
    )
    stronger: ClassVar[dict[str, Any]] = {"steps": 2000}

    method: str = Field("trigger-set", description="name of the method, as 'freehold list' shows it")
    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        json_schema_extra={"unit": "steps"},
        description="of the method; its own number by default",
    )

    def against(self, method: str) -> Self:
        """With the method that the model was protected by, unless another was asked for."""
        return self if "method" in self.model_fields_set else self.model_copy(update={"method": method})

    def _problems(self, model: nn.Module, domain: Domain, spec: InputSpec) -> list[Problem]:
        try:
            method = self._method()
        except UsageError as error:
            return [Problem(where="method", what=error.what, fix=error.fix)]
        return method.problems(model, Domains(domain, [], spec))

    def _method(self) -> Protection:
        kind = find(self.method)
        if not issubclass(kind, Protection):
            raise UsageError(f"{self.method!r} protects nothing", where="method", fix="see 'freehold list'")
        chosen: dict[str, Any] = {"steps": self.steps} if self.steps and "steps" in kind.model_fields else {}
        return kind(**chosen)

    def _run(self, model: nn.Module, domain: Domain, spec: InputSpec, trainer: Trainer) -> Taken:
        method = self._method()
        own = Key(derive(trainer.run.seed, "the thief's").to_bytes(32, "big"), "thief")
        key = own if method.kind == "ownership" else None
        marked = method.protect(model, Domains(domain, [], spec), run=trainer.run, key=key)
        histories = list(marked.record["histories"].values())
        steps = sum(history["steps"][-1] for history in histories if history["steps"])
        return Taken(marked.model, images=len(domain.train), steps=steps)
