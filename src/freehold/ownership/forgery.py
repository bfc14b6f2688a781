"""False claims brought before our own protocol: each one a key, judged like any other.

A forger has a secret of his own, knows the released model, and puts into his key whatever helps him. Two
things stand against him: what a key draws cannot be chosen, and a commitment counts only if it was
published before the model. :func:`judged` tells which of the two a claim fails by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freehold.attacks.published import PassportClaim, TriggerClaim
from freehold.errors import SecretError
from freehold.keys import Key
from freehold.keys.stream import derive_secret
from freehold.models.norm_pairs import NormPair
from freehold.ownership.base import OwnershipMethod, verify
from freehold.ownership.observation import Decision
from freehold.ownership.passport import Passport
from freehold.ownership.passport_marks import draw_marks
from freehold.ownership.suspect import Suspect
from freehold.ownership.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """What became of a claim.

    Attributes:
        verdict: with what the registry holds; None where the claim was refused before any trial.
        refusal: why, in that case.
        believed: the verdict if the key's own commitment were taken for published in time.
    """

    verdict: Verdict | None
    refusal: str
    believed: Verdict

    @property
    def accepted(self) -> bool:
        """Whether our protocol grants the claim."""
        return self.verdict is not None and self.verdict.decision == Decision.MATCH

    @property
    def stopped_by(self) -> str:
        """``mathematics`` if no date would help, ``date`` if an earlier one would, or ``nothing``."""
        if self.accepted:
            return "nothing"
        return "date" if self.believed.decision == Decision.MATCH else "mathematics"

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "accepted": self.accepted,
            "decision": self.verdict.decision.value if self.verdict else "REFUSED",
            "reason": self.verdict.reason if self.verdict else self.refusal,
            "p": self.verdict.p_adjusted if self.verdict else None,
            "matches": [self.believed.matches, self.believed.trials],
            "decision, its date believed": self.believed.decision.value,
            "p, its date believed": self.believed.p_adjusted,
            "stopped by": self.stopped_by,
        }


def judged(
    suspect: Suspect,
    key: Key,
    published: Collection[str],
    *,
    presented: str | None = None,
    alpha: float = 1e-6,
) -> Judged:
    """Bring a claim.

    Args:
        suspect: the model that is claimed.
        key: the claimant's.
        published: commitments that a registry holds from before the model's release.
        presented: one of them that the claimant calls his; by default his own, if it is among them.
        alpha: of the verdict.
    """
    believed = verify(suspect, key, alpha=alpha, commitment=key.commitment)
    if presented is None and key.commitment in published:
        presented = key.commitment
    try:
        return Judged(verify(suspect, key, alpha=alpha, commitment=presented), "", believed)
    except SecretError as error:
        return Judged(None, str(error), believed)


def forged_key(
    secret: bytes,
    method: OwnershipMethod,
    suspect: Suspect,
    *,
    layers: Sequence[NormPair] = (),
    learned: Mapping[str, Tensor] | None = None,
    owner: str = "forger",
) -> Key:
    """A key that fits a suspect, by somebody who never marked it.

    Args:
        secret: 32 bytes of the forger's.
        method: that he says he used.
        suspect: the model.
        layers: that he says are marked, for passports.
        learned: what he says was learned.
        owner: his name.
    """
    facts = {"input": suspect.input.model_dump(mode="json"), "num_classes": suspect.num_classes}
    if layers:
        facts["layers"] = facts["aligned"] = [asdict(pair) for pair in layers]
    return Key(secret, owner).bound(method.name, method.model_dump(mode="json"), facts, learned)


def passport_key(
    secret: bytes, suspect: Suspect, claim: PassportClaim, method: Passport | None = None
) -> Key:
    """The key that brings a published passport claim: its layers, h, statistics, passports and bits.

    The reference is the released model itself. Claimed passports and bits are carried along: nothing
    reads them, since a key draws its own.
    """
    weights, learned = suspect.weights(), {}
    for layer in claim.layers:
        name = layer.pair.layer
        learned[f"reference.{name}"] = weights.get_parameter(f"{name}.weight").detach().flatten(1).bfloat16()
        learned |= {f"claimed.{name}.scale": layer.scale, f"claimed.{name}.bits": layer.bits.float()}
    for norm, own in claim.statistics.items():
        learned |= {f"private.{norm}.{buffer}": tensor for buffer, tensor in own.items()}
    layers = [layer.pair for layer in claim.layers]
    return forged_key(secret, method or Passport(), suspect, layers=layers, learned=learned)


def trigger_key(secret: bytes, suspect: Suspect, claim: TriggerClaim, method: OwnershipMethod) -> Key:
    """The key that brings triggers of the claimant's own making; nothing reads them."""
    learned = {"claimed.images": claim.images, "claimed.labels": claim.labels}
    return forged_key(secret, method, suspect, learned=learned)


def sorting_reference(key: Key) -> Key:
    """A passport key with a reference that sorts any network's filters into the key's own bits.

    A filter's bit is whether it lies on the same side of the passport's direction s and the sign's t.
    Aligned to s + t where the bit is 1, and to s - t where it is 0, filters of any network come to
    stand where they read as wanted; nothing has to be known of it. Bits therefore depend on the reference,
    so that they change as soon as it is made from them.
    """
    learned = dict(key.learned)
    for mark in draw_marks(key, [NormPair(**pair) for pair in key.facts["layers"]]):
        scale, sign = (direction / direction.norm() for direction in (mark.scale, mark.sign))
        sides = (2 * mark.bits - 1)[:, None]
        learned[f"reference.{mark.pair.layer}"] = (scale + sides * sign).bfloat16()
    return key.bound(key.method, dict(key.settings), dict(key.facts), learned)


def ground(
    suspect: Suspect,
    method: OwnershipMethod,
    *,
    seeds: int = 1 << 20,
    finalists: int = 32,
    owner: str = "forger",
) -> Key:
    """The best of many secrets: hashes are cheap, so labels are ground first, and queries only then spent.

    Secrets whose labels repeat the suspect's favourite answer to such images go to a final round, in which
    the suspect is asked about the triggers of each.

    Args:
        suspect: the model.
        method: a trigger set or PTYNet; the forger chooses its settings.
        seeds: secrets tried.
        finalists: of these, asked about.
        owner: the forger's name, part of what is derived.
    """
    key = forged_key(_secret(0), method, suspect, owner=owner)
    favourite = torch.cat(list(method._observe(suspect, key))).mode().values
    count = len(method._trials(key).labels)
    classes = suspect.num_classes
    fair = (1 << 32) // classes * classes
    favoured = np.empty(seeds, np.int64)
    for first in range(0, seeds, 1 << 15):  # a few MB at a time
        part = range(first, min(seeds, first + (1 << 15)))
        drawn = b"".join(_first_draw(_secret(n), 4 * count, owner, method.name, "labels") for n in part)
        words = np.frombuffer(drawn, "<u4").reshape(len(part), count)
        hits = (words < fair) & (words % classes == int(favourite))
        favoured[first : part.stop] = hits.sum(1)
    best, most = key, -1
    for number in np.argsort(favoured)[::-1][:finalists].tolist():
        key = forged_key(_secret(number), method, suspect, owner=owner)
        matches = int((torch.cat(list(method._observe(suspect, key))) == method._trials(key).labels).sum())
        if matches > most:
            best, most = key, matches
    return best


def _secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _first_draw(secret: bytes, size: int, *path: str | int) -> bytes:
    """What a :class:`~freehold.keys.Stream` draws first, without its other work: a million in seconds."""
    return hashlib.shake_256(derive_secret(secret, *path) + (1).to_bytes(8, "big")).digest(size)
