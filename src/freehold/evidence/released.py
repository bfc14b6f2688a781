"""What a release is made of, as its ``run.json`` and its card say it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from freehold.metrics.accuracy import Accuracy
from freehold.ownership.observation import Decision

ONNX, INT8, CARD, CLAIM = "model.onnx", "model-int8.onnx", "README.md", "claim.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mark(_Frozen):
    """Whether a released file still carries the key's mark.

    Attributes:
        file: of the release.
        decision: MATCH, NO_MATCH or INCONCLUSIVE; None if the key asks for weights that the file hides.
        matches: secret answers given.
        trials: secret answers asked for.
        p_value: chance of so many matches for an innocent model.
    """

    file: str
    decision: Decision | None = None
    matches: int = 0
    trials: int = 0
    p_value: float = 1.0


class Quantised(_Frozen):
    """What 8-bit integers cost, on test images of the authorized domain.

    Attributes:
        domain: its name.
        before: accuracy of the model.
        after: accuracy of the quantised one.
        agreement: share of images to which both give the same class.
    """

    domain: str
    before: Accuracy
    after: Accuracy
    agreement: Accuracy


class Release(_Frozen):
    """A published release.

    Attributes:
        directory: where it stands.
        difference: largest relative difference of a logit between model and ONNX file, None without one.
        int8: what quantising cost, None if it was not asked for.
        marks: of each released model, if the key was given.
        searched: whether every file was searched for the key.
        signer: Ed25519 public key (hex) of the claim that lies in it, None without one.
        already: it had been published before; nothing was written.
    """

    directory: Path
    difference: float | None = None
    int8: Quantised | None = None
    marks: tuple[Mark, ...] = ()
    searched: bool = False
    signer: str | None = None
    already: bool = False

    @property
    def carries_its_mark(self) -> bool:
        """No released file that could be asked has lost the mark."""
        return all(mark.decision in (None, Decision.MATCH) for mark in self.marks)
