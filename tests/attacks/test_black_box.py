"""Disguise and overwriting, and the page that lists all attacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kit import Small, quiet
from torch import nn

from freehold.attacks import catalogue
from freehold.attacks.disguise import Disguise, Dressed, recoloured
from freehold.attacks.fine_tune import FineTune
from freehold.attacks.overwrite import Overwrite
from freehold.data import InputSpec
from freehold.data.sources import load_domain
from freehold.training import Trainer

SPEC = InputSpec(size=16)


@pytest.fixture(scope="module")
def digits():
    return load_domain("digits", limit=120)


class Counting(nn.Module):
    """Counts the images that it is asked about, and gives no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = Small(), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return self.net(images).detach()


def test_no_disguise_is_no_change_and_colours_are_those_wanted():
    model, images = Small().eval(), torch.rand(4, 3, 16, 16) * 2 - 1
    assert torch.allclose(Dressed(model, SPEC)(images), model(images), atol=1e-5)
    have, want = torch.rand(8, 3, 9, 9), 0.3 * torch.rand(8, 3, 9, 9) ** 2 + 0.1
    want[:, 1] += 0.5 * want[:, 0]
    colours, offset = recoloured(have, want)
    dressed = torch.einsum("oc,bchw->bohw", colours, have - 0.5) + offset.view(-1, 1, 1) + 0.5
    flat, goal = (x.transpose(0, 1).flatten(1) for x in (dressed, want))
    assert torch.allclose(flat.mean(1), goal.mean(1), atol=1e-4)
    assert torch.allclose(flat.cov(), goal.cov(), atol=2e-3)


def test_information_is_high_where_answers_are_sure_and_varied():
    class Look(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 20 * nn.functional.one_hot((images.mean((1, 2, 3)) > 0).long(), 2).float()

    dressed, spec = Dressed(Look(), SPEC), SPEC
    images = torch.cat([torch.full((5, 3, 16, 16), v) for v in (-0.5, 0.5)])
    plain = dressed.packed(torch.eye(3), torch.zeros(3))
    white = dressed.packed(torch.eye(3), torch.full((3,), 0.4))
    found = dressed.information(torch.stack([plain, white]), images)
    assert spec.channels == 3 and found.tolist() == pytest.approx([0.693, 0], abs=1e-3)


def test_every_question_is_counted_and_only_answers_are_used(digits):
    model, attack = (
        Counting(),
        Disguise(steps=7, directions=3, batch_size=16, authorized="digits | contrast=0.5"),
    )
    taken = attack._run(model, digits, SPEC, Trainer(quiet()))
    assert model.seen == taken.queries > 0 and taken.steps == 7


def test_overwriting_knows_the_method_it_is_up_against():
    assert Overwrite().against("ptynet").method == "ptynet"
    assert Overwrite(method="passport").against("ptynet").method == "passport"
    same = FineTune()
    assert same.against("ptynet") is same


@pytest.mark.parametrize(
    ("method", "where"), [("mapp", "method"), ("prune", "method"), ("ntl", "unauthorized")]
)
def test_what_cannot_be_overwritten_with_is_named(digits, method, where):
    assert [p.where for p in Overwrite(method=method).problems(Small(), digits, SPEC)] == [where]


def test_the_page_lists_every_attack():
    page = Path(__file__).parents[2] / "docs" / "attacks.md"
    assert catalogue.table() in page.read_text()
    assert len(catalogue.attacks()) >= 19


def test_the_table_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{catalogue.BEGIN}old\n{catalogue.END}\nafter\n")
    catalogue.write(page)
    assert page.read_text() == f"before\n{catalogue.BEGIN}{catalogue.table()}{catalogue.END}\nafter\n"
