"""What was found in a file, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Level = Literal["note", "doubt", "danger"]
Verdict = Literal["SAFE", "DOUBTFUL", "UNSAFE"]

_KEPT = 100  # findings shown
_LONGEST = 120  # characters of a name or text out of the file


class Finding(BaseModel):
    """One thing a reader should know.

    Attributes:
        level: ``danger``: opening it may run a stranger's code or reach outside; ``doubt``: this
            cannot be vouched for; ``note``: harmless.
        where: the tensor, operator, instruction or entry; empty for the file as a whole.
        what: one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level
    where: str
    what: str


class Inspection(BaseModel):
    """A model file, looked at from outside.

    Attributes:
        path: as it was named.
        format: ``safetensors``, ``onnx``, ``pickle``, ``torch archive`` or ``legacy torch file``.
        size: bytes.
        sha256: of the whole file, hex.
        verdict: SAFE: it has the structure of its format and asks for nothing but tensors; UNSAFE:
            it does; DOUBTFUL: neither can be said.
        findings: at most 100, the gravest first.
        tensors: how many it holds; None if that is not known without loading it.
        numbers: elements of all of them.
        kinds: tensors by element type.
        nan: elements that are not a number.
        infinite: elements that are infinite.
        globals: every Python name a pickle asks for, sorted.
        operators: ``domain:operator`` of every kind of node, sorted.
        metadata: what the file says of itself; its own words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    format: str
    size: int
    sha256: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    tensors: int | None
    numbers: int | None
    kinds: dict[str, int]
    nan: int | None
    infinite: int | None
    globals: tuple[str, ...]
    operators: tuple[str, ...]
    metadata: dict[str, str]


class Notes:
    """What a scanner writes down while it reads: findings, counts and names."""

    def __init__(self) -> None:
        self.tensors = self.numbers = self.nan = self.infinite = 0
        self.counted = True  # whether these figures are known
        self.kinds: dict[str, int] = {}
        self.globals: set[str] = set()
        self.operators: set[str] = set()
        self.metadata: dict[str, str] = {}
        self._found: dict[Level, dict[Finding, None]] = {"danger": {}, "doubt": {}, "note": {}}
        self._missed = 0

    def add(self, level: Level, where: str, what: str) -> None:
        """One finding; the same one twice counts once."""
        found = self._found[level]
        finding = Finding(level=level, where=printable(where), what=what)
        if finding in found:
            return
        if len(found) < _KEPT:
            found[finding] = None
        else:
            self._missed += 1

    def tensor(self, name: str, kind: str, numbers: int, odd: tuple[int, int]) -> None:
        """Count a tensor of ``numbers`` elements, of which ``odd`` are NaN and infinite."""
        self.tensors += 1
        self.numbers += numbers
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.odd(name, *odd)

    def odd(self, name: str, nan: int, infinite: int) -> None:
        """Count elements that are no finite numbers."""
        self.nan += nan
        self.infinite += infinite
        if nan or infinite:
            self.add("doubt", name, f"holds {nan} NaN and {infinite} infinite values")

    def about(self, pairs: Iterable[tuple[str, str]]) -> None:
        """What the file says of itself; the first 50 entries are kept, shortened."""
        for key, value in pairs:
            if len(self.metadata) < 50:
                self.metadata[printable(key)] = printable(value)

    def findings(self) -> tuple[Finding, ...]:
        """The gravest first."""
        every = [finding for level in self._found.values() for finding in level]
        left = len(every) - _KEPT + self._missed
        if left > 0:
            last = Finding(level="note", where="", what=f"{left} more findings are not shown")
            return (*every[:_KEPT], last)
        return tuple(every)

    @property
    def verdict(self) -> Verdict:
        """What the gravest finding allows to say."""
        return "UNSAFE" if self._found["danger"] else "DOUBTFUL" if self._found["doubt"] else "SAFE"


def printable(text: str) -> str:
    """Text out of a stranger's file, safe to show on a terminal: one line, no control characters, short."""
    shown = text[: _LONGEST + 1].encode("utf-8", "backslashreplace").decode()
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def words(text: str) -> frozenset[str]:
    """The words of ``text``: how a list of names is written down here."""
    return frozenset(text.split())
