"""What a bundle says about its files: who was asked what, and the verdict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from freehold.evidence.claim import Line
from freehold.evidence.statement import Moment, Sha256, Subject, ordered
from freehold.ownership.verdict import Verdict
from freehold.settings import Settings

CASE = "urn:freehold:case:1"
MOST = 1 << 20  # answers

Side = Annotated[int, Field(ge=4, le=4096)]


class Asked(Settings):
    """Who was asked."""

    name: Line = Field(description="how the verdict calls it")
    kind: Literal["folder", "file", "address", "object"]
    digest: Sha256 | None = Field(
        description="of a folder the hash of its weights as tensors, of a file SHA-256; else none"
    )
    access: Literal["labels", "probabilities", "weights"]
    channels: Literal[1, 3]
    size: tuple[Side, Side] = Field(description="height and width of the images it takes")
    num_classes: int = Field(ge=2, le=1 << 31)


class Questions(Settings):
    """The images it was asked about: how many, and the root of their hash tree."""

    count: int = Field(ge=0, le=MOST)
    root: Sha256


class Findings(Settings):
    """What is said about the files of a bundle."""

    suspect: Asked
    queries: Questions
    verdict: Verdict
    made: Moment = Field(description="as the maker of the bundle says")
    software: dict[Line, Line] = Field(description="versions")


class Case(Settings):
    """An in-toto statement about the other files of a bundle."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=16), AfterValidator(ordered)]
    predicateType: Literal["urn:freehold:case:1"]
    predicate: Findings
