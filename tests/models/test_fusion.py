from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from kit import Small
from torch import nn

from freehold.data import InputSpec
from freehold.errors import ArtifactError
from freehold.models.anatomy import find_head
from freehold.models.checkpoint import AttachBranch, Recipe, load_checkpoint, save_checkpoint
from freehold.models.fusion import FUSIONS, Branch, Fused, gate, margin, mixture, pooling, probability_sum
from freehold.models.weights import state_hash
from freehold.models.zoo import ModelSpec, load_model
from freehold.seeds import generator, global_draws

CLASSES, EDIT = 10, AttachBranch(num_classes=10, channels=3, pool=2, fusion="gate", strength=1.5)


def scores_and_logits(count: int = 400, scale: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = generator(0, "scores")
    return tuple(scale * torch.randn(count, k, generator=draws) for k in (CLASSES + 1, CLASSES))  # type: ignore[return-value]


def fused(fusion: str = "gate") -> tuple[Fused, torch.Tensor]:
    """A fused network of which some images open the gate and some do not, and these images."""
    with global_draws(3, "branch"):
        model = Fused(Small(), Branch(CLASSES, pool=2), fusion).eval()
    images = torch.randn(40, 3, 32, 32, generator=generator(0, "images"))
    with torch.no_grad():
        model.branch.head.bias[-1] += margin(model.branch(images)).quantile(0.5)  # between two of them
    return model, images


def test_a_closed_gate_changes_no_bit_and_an_open_one_always_flips():
    scores, logits = scores_and_logits()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for scale in (1e-3, 1.0, 1e3):
            given = (scale * logits).to(dtype)
            merged = gate(given, scores)
            opened = scores[:, :-1].max(1).values - scores[:, -1] > 0
            assert 20 < opened.sum() < 380 and merged.dtype == dtype
            assert torch.equal(merged[~opened], given[~opened])
            assert torch.equal(merged.argmax(1)[opened], scores[:, :-1].argmax(1)[opened])
            sums = merged.float().softmax(1).sum(1)
            torch.testing.assert_close(sums, torch.ones_like(sums))
    odd = torch.full_like(scores, float("nan"))
    assert torch.equal(gate(logits, odd), logits)


def test_what_an_open_gate_does_not_lift_stays():
    scores, logits = scores_and_logits()
    merged = gate(logits, scores)
    assert ((merged != logits).sum(1) <= 1).all()


def test_mixture_is_what_it_says_and_rows_sum_to_one():
    scores, logits = (t.double() for t in scores_and_logits())
    found = mixture(logits, scores).exp()
    for row in range(0, 400, 37):
        z, g = logits[row].numpy(), scores[row].numpy()
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        s = 1 / (1 + np.exp(-(g[:-1].max() - g[-1])))
        expected = (1 - s) * p
        expected[g[:-1].argmax()] += s
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(400).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.log().softmax(1), found, atol=1e-5, rtol=0)
    extreme = mixture(1e4 * logits.float(), 1e4 * scores.float())
    assert extreme.isfinite().all()


def test_the_published_sum_does_not_sum_to_one_and_can_be_trained():
    scores, logits = scores_and_logits(60)
    scores.requires_grad_(True)
    logits.requires_grad_(True)
    found = probability_sum(logits, scores, 1.5)
    q = np.exp(scores.detach().numpy())
    q = (q / q.sum(1, keepdims=True))[:, :-1]
    p = np.exp(logits.detach().numpy())
    np.testing.assert_allclose(
        found.detach().numpy(), p / p.sum(1, keepdims=True) + 1.5 * q, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(found.detach().sum(1).numpy(), 1 + 1.5 * q.sum(1), rtol=1e-5)
    found.square().sum().backward()
    assert scores.grad.abs().sum() > 0 and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_whoever_trains_the_whole_moves_the_target_and_by_the_gate_never_the_branch(fusion):
    model, images = fused(fusion)
    model(images).logsumexp(1).sum().backward()
    assert model.target.features[0].weight.grad is not None
    reached = [p.grad is not None and bool(p.grad.any()) for p in model.branch.parameters()]
    assert not any(reached) if fusion == "gate" else any(reached)


def test_folding_changes_nothing_and_leaves_nothing_that_drifts():
    with global_draws(1, "branch"):
        student = Branch(5, 1, pool=1, norm=True)
        images = torch.randn(16, 1, 20, 24)
        for _ in range(3):
            student.train()(images)
    before = state_hash(student.eval())
    plain = student.folded()
    torch.testing.assert_close(plain(images), student(images), atol=1e-5, rtol=1e-4)
    assert not list(plain.buffers()) and state_hash(student) == before
    first = plain.train()(images)
    assert torch.equal(first, plain.eval()(images))


@pytest.mark.parametrize("size", [(12, 12), (16, 16), (28, 28), (33, 47), (64, 64), (224, 224)])
def test_a_branch_costs_the_same_at_any_size(size):
    branch, sides = Branch(10, pool=pooling(size)), [s // pooling(size) for s in size]
    assert branch(torch.zeros(2, 3, *size)).shape == (2, 11)
    assert min(sides) <= 31 and (min(sides) >= 16 or min(size) < 16)
    assert sum(p.numel() for p in Branch(10).parameters()) <= 150_000
    assert sum(p.numel() for p in Branch(1000).parameters()) <= 150_000


def test_each_sample_has_a_gate_of_its_own():
    model, images = fused()
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        opened = margin(model.branch(images)) > 0
        assert 0 < opened.sum() < len(images)
        torch.testing.assert_close(model(images), alone, atol=1e-4, rtol=1e-4)
        assert torch.equal(model(images)[~opened], model.target(images)[~opened])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_exported_for_any_batch_it_answers_as_before(fusion):
    model, images = fused(fusion)
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(model, (images[:3],), dynamic_shapes=({0: batch},))
        torch.testing.assert_close(program.module()(images), model(images))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_as_onnx_it_answers_as_before(fusion):
    onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    from onnx.reference import ReferenceEvaluator

    model, images = fused(fusion)
    with torch.no_grad():
        program = torch.onnx.export(model, (images[:6],), dynamo=True, verbose=False)
        buffer = io.BytesIO(program.model_proto.SerializeToString())
        session = ReferenceEvaluator(onnx.load(buffer))
        found = session.run(None, {session.input_names[0]: images[:6].numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), model(images[:6]), atol=1e-4, rtol=1e-4)


def test_the_head_of_the_whole_is_that_of_the_target():
    model, images = fused()
    assert find_head(model, images[:2]) == "target.head"


def test_a_checkpoint_is_rebuilt_on_the_bare_architecture(tmp_path):
    model = EDIT.apply(load_model("convnet", 10)).eval()
    recipe = Recipe(
        model=ModelSpec(uri="convnet", num_classes=10),
        input=InputSpec(size=32),
        classes=tuple("abcdefghij"),
        edits=(EDIT,),
    )
    save_checkpoint(tmp_path, model, recipe)
    loaded, read = load_checkpoint(tmp_path)
    images = torch.randn(5, 3, 32, 32)
    assert read == recipe and isinstance(loaded, Fused)
    assert torch.equal(loaded(images), model(images))
    bare, _ = load_checkpoint(tmp_path, load_model("convnet", 10))
    assert torch.equal(bare(images), model(images))


@pytest.mark.parametrize("change", ['"pool": 4096', '"fusion": "product"', '"num_classes": 99999999'])
def test_a_recipe_asks_for_nothing_absurd(change):
    text = Recipe(input=InputSpec(), classes=("a", "b"), edits=(EDIT,)).to_json().decode()
    key = change.split(":")[0]
    line = next(line for line in text.splitlines() if key in line)
    with pytest.raises(ArtifactError):
        Recipe.from_json(text.replace(line, line.split(key)[0] + change + ",").encode())


def test_any_network_can_be_a_target():
    target = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4))
    model = AttachBranch(num_classes=4, channels=3, pool=1, fusion="gate", strength=1.0).apply(target)
    assert model(torch.zeros(3, 3, 18, 18)).shape == (3, 4) and model.target is target
