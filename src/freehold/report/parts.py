"""What a page shows: plain, frozen data, free of torch and of the house above.

Accuracies, relative drops and chance levels are fractions; drops are percentage points, positive when
accuracy was lost. Texts are plain text: nothing in them is read as HTML or as mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from freehold.errors import DataError

Role = Literal["authorized", "unauthorized"]
ROLES: tuple[Role, Role] = ("authorized", "unauthorized")


@dataclass(frozen=True)
class Accuracy:
    """A measured accuracy and its exact two-sided 95 % interval, ``0 <= low <= value <= high <= 1``."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise DataError(
                f"{self} is out of order", where="accuracy", fix="give fractions, low <= value <= high"
            )


@dataclass(frozen=True, eq=False)
class Sample:
    """One test image with its class and what both models say.

    Attributes:
        image: array or nested lists of integers 0..255, shape (H, W), (H, W, 1) or (H, W, 3).
        truth: name of the true class.
        before: class named by the unprotected model.
        after: class named by the protected model.
    """

    image: Any
    truth: str
    before: str
    after: str


@dataclass(frozen=True, eq=False)
class DomainResult:
    """How both models do on the test split of one domain.

    Attributes:
        name: name of the domain.
        role: ``"authorized"`` or ``"unauthorized"``.
        images: number of test images the accuracies were measured on.
        before: accuracy of the unprotected model.
        after: accuracy of the protected model.
        chance: accuracy of guessing, in [0, 1).
        corrected: accuracy after, corrected for chance: 0 is guessing, 1 is perfect, below 0 is worse.
        drop_interval: interval of the drop in points, if one was computed.
        samples: a few test images.
    """

    name: str
    role: Role
    images: int
    before: Accuracy
    after: Accuracy
    chance: float
    corrected: float
    drop_interval: tuple[float, float] | None = None
    samples: Sequence[Sample] = ()

    def __post_init__(self) -> None:
        where = f"domain {self.name!r}"
        if self.role not in ROLES:
            raise DataError(f"role {self.role!r}", where=where, fix="use 'authorized' or 'unauthorized'")
        if self.images < 1:
            raise DataError("measured on no image", where=where)
        if not 0 <= self.chance < 1:
            raise DataError(
                f"chance level {self.chance} is not in [0, 1)", where=where, fix="give a fraction"
            )

    @property
    def drop(self) -> float:
        """Accuracy lost, in percentage points; negative when it rose."""
        return 100 * (self.before.value - self.after.value)


@dataclass(frozen=True)
class Step:
    """One thing that was checked.

    Attributes:
        name: of it.
        state: ``holds``, ``fails`` or ``open``.
        says: one sentence.
    """

    name: str
    state: Literal["holds", "fails", "open"]
    says: str


@dataclass(frozen=True)
class Transfer:
    """The drops and what is made of them.

    Attributes:
        source_drop: points lost on the authorized domain.
        target_drop: points lost on the unauthorized domains (mean).
        source_relative: source drop as a fraction of the accuracy before.
        target_relative: target drop as a fraction of the accuracy before (mean).
        st_d: relative source drop over relative target drop; may be negative, infinite or nan.
        overall: (source accuracy + 100 - target accuracy) / 2, in percent.
        flags: sentences a reader of these figures must know.
    """

    source_drop: float
    target_drop: float
    source_relative: float
    target_relative: float
    st_d: float
    overall: float
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Layer:
    """Weights that a mask kept in one layer, ``0 <= kept <= total``, total at least 1."""

    name: str
    kept: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.kept <= self.total or self.total < 1:
            raise DataError(f"{self.kept} of {self.total} weights kept", where=f"layer {self.name!r}")

    @property
    def share(self) -> float:
        """Fraction of the weights kept."""
        return self.kept / self.total


@dataclass(frozen=True, eq=False)
class Curve:
    """One series of one panel; series of the same panel share axes. Values that are not finite leave a gap.

    Attributes:
        panel: title of the panel.
        series: what the line is.
        steps: x values, ascending.
        values: y values, as many as steps.
        log: whether to draw y on a logarithmic scale (only where values are positive).
        role: colours the line as the domains of that role; None is neutral.
    """

    panel: str
    series: str
    steps: Sequence[float]
    values: Sequence[float]
    log: bool = False
    role: Role | None = None

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            where = f"curve {self.panel!r}, {self.series!r}"
            raise DataError(f"{len(self.steps)} steps but {len(self.values)} values", where=where)

    @property
    def last(self) -> float:
        """The last finite value, nan if there is none."""
        return next((float(v) for v in reversed(self.values) if math.isfinite(v)), math.nan)


@dataclass(frozen=True)
class Attacked:
    """What one attacker reaches by fine-tuning the released model.

    Attributes:
        name: of the attacker.
        budget: the fine-tuning recipe it had.
        accuracies: mean test accuracy, one a size.
        area: SLC-AUC in nats, mean over seeds; above 0 the released model helped.
        normalised: the mean accuracy gap, in [-1, 1].
        interval: of the area over seeds, None for one seed.
    """

    name: str
    budget: str
    accuracies: Sequence[float]
    area: float
    normalised: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Learning:
    """Learning curves on one unauthorized domain.

    Attributes:
        domain: its name.
        sizes: labelled images of the attacker, ascending.
        reference: what the curves are compared with.
        baseline: mean accuracy of the reference, one a size.
        attacked: the worst for the defender first.
        seeds: repeats that the means are over.
    """

    domain: str
    sizes: Sequence[int]
    reference: str
    baseline: Sequence[float]
    attacked: Sequence[Attacked]
    seeds: int

    def __post_init__(self) -> None:
        where = f"learning curves on {self.domain!r}"
        if not self.attacked:
            raise DataError("no attacker was measured", where=where)
        for series in (self.baseline, *(a.accuracies for a in self.attacked)):
            if len(series) != len(self.sizes):
                raise DataError(f"{len(series)} accuracies for {len(self.sizes)} sizes", where=where)


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter as it was used; ``default`` None means that none is to be shown."""

    value: Any
    default: Any = None
    unit: str = ""
    range: str = ""
    description: str = ""


@dataclass(frozen=True)
class MethodCard:
    """What a reader must know before trusting the method; the fields are those of every plug-in's card."""

    title: str
    paper: str
    venue: str
    identifier: str = ""
    goal: str = ""
    changed: Sequence[str] = ()
    undisclosed: Sequence[str] = ()
    needs: Sequence[str] = ()
    breaks: Sequence[str] = ()
