"""One measured figure, its bar, and what it is allowed to become."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

TOLERANCE = 1.15  # a committed ratio may get worse by so much


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: unique in the suite.
        value: as measured.
        bar: what it must not exceed, or must reach with ``at_least``; None where nothing is promised.
        at_least: whether more is better.
        kind: only a ``ratio`` is compared with the committed one; others depend on the machine or fall under
            their bar alone.
        spread: first and third quartile of the pairs that a ratio is the median of.
        points: size and seconds of each measurement that an exponent was fitted to.
    """

    name: str
    value: float
    bar: float | None = None
    at_least: bool = False
    kind: str = "ratio"  # or "memory", "exponent", "amount"
    spread: tuple[float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the bar is met; True where there is none."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def worse_than(self, committed: float) -> bool:
        """Whether this is a regression from the committed value of the same name."""
        if self.kind not in ("ratio", "memory"):
            return False
        before, now = (committed, self.value) if not self.at_least else (self.value, committed)
        return now > TOLERANCE * before

    def line(self, committed: float | None) -> str:
        """For the terminal."""
        bar = "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:.3g}"
        verdict = "" if self.bar is None else "holds" if self.holds else "MISSED"
        if committed is not None and self.worse_than(committed):
            verdict += f"  WORSE than {committed:.4g}"
        return f"{self.name:58} {self.value:10.4g}  {bar:9} {verdict}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """With numbers rounded: the rest is noise."""
        fields = asdict(self)
        shown = {k: v for k, v in fields.items() if v not in (None, (), False)}
        for key in ("value", "spread", "points", "bar"):
            if key in shown:
                shown[key] = _rounded(shown[key])
        return shown | ({} if self.bar is None else {"holds": self.holds})


class Measurable(Protocol):
    """Something that can be measured, and measured again."""

    def measure(self, quick: bool) -> list[Figure]:
        """Its figures; ``quick`` for fewer repeats."""


def _rounded(value: Any) -> Any:
    return [_rounded(v) for v in value] if isinstance(value, tuple | list) else float(f"{value:.4g}")
