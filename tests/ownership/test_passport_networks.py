from __future__ import annotations

import pytest
import torch
from kit import quiet
from torch import nn

from freehold.attacks.permute import Permute
from freehold.data import Domain, Domains, InputSpec, Split
from freehold.data.points import as_images
from freehold.keys import Key
from freehold.models.norm_pairs import NormPair
from freehold.models.zoo import load_model
from freehold.ownership.base import verify
from freehold.ownership.observation import Decision
from freehold.ownership.passport import Passport
from freehold.ownership.passport_marks import draw_marks, read_bits
from freehold.ownership.suspect import suspect
from freehold.seeds import generator

KEY = Key(bytes(range(32)), "ACME")


def split(images: torch.Tensor) -> Split:
    return Split(images, torch.arange(len(images)) % 2)


def pictures() -> Domains:
    rng = generator(0, "pictures")
    drawn = [torch.randint(256, (32, 3, 16, 16), generator=rng, dtype=torch.uint8) for _ in range(3)]
    return Domains(Domain("pictures", ("0", "1"), *map(split, drawn)), [], InputSpec(size=16))


def clouds() -> Domains:
    rng = generator(0, "clouds")
    drawn = [as_images(torch.randn(32, 64, 3, generator=rng).numpy()) for _ in range(3)]
    return Domains(Domain("clouds", ("0", "1"), *map(split, drawn)), [], InputSpec(size=8))


def read_in_place(model: nn.Module, key: Key) -> float:
    """Share of the bits that are found without looking where channels went."""
    marks = draw_marks(key, [NormPair(**pair) for pair in key.facts["layers"]])
    read = [
        read_bits(model.get_parameter(f"{mark.pair.layer}.weight").detach(), mark, canonical=True)
        == mark.bits
        for mark in marks
    ]
    return float(torch.cat(read).float().mean())


@pytest.mark.parametrize(("uri", "domains"), [("resnet20", pictures), ("pointnet", clouds)])
def test_a_marked_network_is_known_also_after_its_channels_moved(uri, domains):
    given, original = domains(), load_model(uri, 2)
    marked = Passport(steps=3, batch_size=8, shift=0).protect(original, given, run=quiet(), key=KEY)
    thief = Permute().run(marked.model, given.authorized, given.input, run=quiet()).model
    assert read_in_place(marked.model, marked.key) >= 0.98 and read_in_place(thief, marked.key) < 0.7

    def asked(model):
        return verify(suspect(model, input=given.input), marked.key, commitment=marked.key.commitment)

    assert asked(original).decision == Decision.NO_MATCH
    for model in (marked.model, thief):
        found = asked(model)
        assert found.decision == Decision.MATCH and found.matches >= 0.98 * found.trials
        assert found.trials == {"resnet20": 688, "pointnet": 960}[uri]
