"""A verdict once more: from the record of a bundle, or from the suspect itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from freehold.data.inputs import InputSpec
from freehold.errors import ArtifactError, FreeholdError
from freehold.evidence.bundle import Bundle
from freehold.evidence.hashtree import leaves_of, tree_root
from freehold.keys import Key
from freehold.models.wrapped import holding
from freehold.ownership.base import OwnershipMethod, method_of
from freehold.ownership.record import Recorded, Replayed
from freehold.ownership.suspect import Suspect
from freehold.ownership.verdict import Verdict
from freehold.plugin import Access

Value = TypeVar("Value")
PIXELS = 1 << 28  # values of all images that are drawn from a key at once
WEIGHTS = 1 << 26  # of one marked layer
CHANNELS = 8192  # that go into or come out of a layer, where those of a suspect are put in order
CLASSES = 1 << 20
ARITHMETIC = 1e-4  # share of pixel values that another machine may draw one level lighter or darker


@dataclass(frozen=True)
class Replay:
    """What came out of a record.

    Attributes:
        verdict: recomputed; None if the record does not hold what is needed, or nothing came of it.
        derivation: of the questions: holds, fails or open.
        derived: a sentence on that.
        fault: why nothing came of it; empty if something did.
    """

    verdict: Verdict | None
    derivation: str
    derived: str
    fault: str = ""


@dataclass(frozen=True)
class Again:
    """What came out of asking a suspect again; attributes as of :class:`Replay`."""

    verdict: Verdict | None
    state: str
    says: str
    fault: str = ""


def replayed(bundle: Bundle) -> Replay:
    """The verdict from the record, and whether the questions are those that the key draws."""
    about, key = bundle.case.predicate, bundle.key
    try:
        method = marked_method(key)
        asks = not method.exhibits(key)
        _guarded(lambda: check_channels(key, bundle.weights))
        if not asks and not bundle.weights:
            return Replay(None, "holds", "no questions: bits are read in weights")
        suspect = Replayed(
            about.suspect.name,
            InputSpec(size=about.suspect.size, channels=about.suspect.channels),
            about.suspect.num_classes,
            Access[about.suspect.access.upper()],
            bundle.answers,
            bundle.weights,
            bundle.scores,
        )
        verdict = _guarded(lambda: _verdict(bundle, suspect))
    except FreeholdError as error:
        return Replay(None, "fails", f"the questions cannot be drawn again: {error}", str(error))
    if not asks:
        return Replay(verdict, "holds", "no questions: passports and bits are drawn from the key")
    return Replay(verdict, *_compared(bundle, suspect.images))


def asked_again(bundle: Bundle, suspect: Suspect, digest: str | None) -> Again:
    """Put the suspect, which can be known by ``digest``, to the same trials, and compare."""
    about, key = bundle.case.predicate, bundle.key
    recorded = Recorded(suspect)
    try:
        method = marked_method(key)
        verdict = _guarded(lambda: _verdict(bundle, recorded))
    except FreeholdError as error:
        return Again(None, "fails", f"the suspect cannot be asked again: {error}", str(error))
    verdict = verdict.model_copy(update={"suspect": about.verdict.suspect})
    if verdict.failure:
        return Again(None, "open", f"the suspect could not be asked to the end: {verdict.failure}")
    asked = min(len(recorded.answers), len(bundle.answers))
    same = int((recorded.answers[:asked] == bundle.answers[:asked]).sum())
    layers = method.exhibits(key)
    what = f"{same} of {len(bundle.answers)} answers as recorded"
    if layers:
        what = _same_weights(bundle, recorded, layers)
    if digest is not None and about.suspect.digest is not None:
        what += f"; its digest is {'the recorded one' if digest == about.suspect.digest else 'another'}"
    if verdict.decision != about.verdict.decision:
        return Again(verdict, "fails", f"asked again, the suspect gives {verdict.decision.value}: {what}")
    return Again(verdict, "holds", f"asked again, the suspect gives {verdict.decision.value} as well: {what}")


def marked_method(key: Key) -> OwnershipMethod:
    """The method of a key from a stranger.

    Raises:
        ArtifactError: there is none, or drawing its trials would take more than is spent on a stranger.
        SecretError: its method is not installed.
    """
    return _guarded(lambda: _method(key))


def check_channels(key: Key, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse layers that putting in order would take too long, as recorded or as the key says they were.

    Args:
        key: that :func:`marked_method` accepted.
        weights: of a suspect, by layer; channels may have been cut out of them.

    Raises:
        ArtifactError: more than ``CHANNELS`` go into or come out of one.
    """
    sizes = [max(weight.shape[:2], default=0) for weight in weights.values()]
    for pair in [*key.facts.get("layers", []), *key.facts.get("aligned", [])]:
        if pair["layer"] in weights:
            kernel = max(1, math.prod(weights[pair["layer"]].shape[2:]))
            sizes += [pair["channels"], pair["fan_in"] // kernel]
    if max(sizes, default=0) > CHANNELS:
        raise ArtifactError("has layers of more channels than can be checked here", where="weights")


def _verdict(bundle: Bundle, suspect: Suspect) -> Verdict:
    said = bundle.case.predicate.verdict
    return _method(bundle.key).verify(
        suspect,
        bundle.key,
        alpha=said.alpha,
        commitment=bundle.key.commitment if said.committed else None,
        sequential=said.sequential,
    )


def _method(key: Key) -> OwnershipMethod:
    spec = InputSpec(**key.facts["input"])
    classes = key.facts["num_classes"]
    if not isinstance(classes, int) or not 2 <= classes <= CLASSES:
        raise ArtifactError("the key is for no number of classes", where="opening")
    for pair in [*key.facts.get("layers", []), *key.facts.get("aligned", [])]:
        sizes = pair["channels"], pair["fan_in"]
        if not all(isinstance(size, int) and size > 0 for size in sizes) or math.prod(sizes) > WEIGHTS:
            raise ArtifactError("the key marks layers of no size", where="opening")
    method = method_of(key)
    if method.questions(key) * spec.channels * math.prod(spec.size) > PIXELS:
        raise ArtifactError("the key draws more than can be checked here", where="opening")
    return method


def _compared(bundle: Bundle, images: torch.Tensor) -> tuple[str, str]:
    """Whether the recorded questions are ``images``: holds or fails, and a sentence."""
    about, drawn = bundle.case.predicate.queries, leaves_of(images)
    if bundle.queries is not None and tree_root(leaves_of(bundle.queries)) != about.root:
        return "fails", "the recorded questions are not those that the case names"
    if len(drawn) != about.count:
        return "fails", f"{len(drawn)} questions follow from the key, {about.count} are recorded"
    if tree_root(drawn) == about.root:
        return "holds", f"all {about.count} questions are drawn from the key, to the last bit"
    if bundle.queries is not None:
        apart = (images.short() - bundle.queries.short()).abs()
        if int(apart.max()) <= 1 and float((apart > 0).double().mean()) <= ARITHMETIC:
            return "holds", (
                f"all {about.count} questions are drawn from the key, but for {int((apart > 0).sum())} pixel "
                "values that this machine rounds to the next level"
            )
    return "fails", "the recorded questions are not those that the key draws"


def _same_weights(bundle: Bundle, recorded: Recorded, layers: tuple[str, ...]) -> str:
    if not bundle.weights:
        return "its weights were not recorded"
    model = holding(recorded.weights(), layers)
    same = sum(
        torch.equal(model.get_parameter(f"{name}.weight").detach().cpu(), bundle.weights[name])
        for name in layers
        if name in bundle.weights
    )
    return f"{same} of {len(layers)} layers have the recorded weights"


def _guarded(compute: Callable[[], Value]) -> Value:
    """What a key or record from a stranger gives, or an error of ours: libraries may raise any on it."""
    try:
        return compute()
    except FreeholdError:
        raise
    except Exception as error:
        raise ArtifactError(f"{type(error).__name__}: {error!s:.100}", where="opening") from None
