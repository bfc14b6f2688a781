"""Formulas of single attacks; what all attacks must do is in tests/contract."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from kit import Small, quiet
from PIL import Image
from torch import nn

from freehold.attacks.adapt import Adapt, _Memory
from freehold.attacks.base import leaked
from freehold.attacks.extract import Extract
from freehold.attacks.filter import FILTERS, Filter
from freehold.attacks.fine_tune import FineTune, classifier_layers
from freehold.attacks.perturb import Perturb
from freehold.attacks.prune import Prune, prune
from freehold.attacks.quantize import Quantize, Rounding, rounded
from freehold.attacks.transntl import climb, perturbed, steadiness
from freehold.data import InputSpec, Split
from freehold.data.photographs import patches
from freehold.data.sources import load_domain
from freehold.metrics.accuracy import apply
from freehold.models.fusion import Branch, Fused
from freehold.models.nets import VGG11
from freehold.training import Loop

SPEC = InputSpec(size=32)


@pytest.fixture(scope="module")
def digits():
    return load_domain("digits", limit=120)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("scope", ["layer", "global", "random"])
def test_pruning_cuts_exactly_its_share_and_the_smallest(share, scope):
    weights = [nn.Parameter(torch.randn(20, 10)), nn.Parameter(5 * torch.randn(30, 10))]
    before = [w.detach().clone() for w in weights]
    prune(weights, share, scope, seed=0)
    cut = [int((w == 0).sum()) for w in weights]
    assert sum(cut) == pytest.approx(share * 500, abs=1)
    if scope != "global":
        assert cut == [round(share * 200), round(share * 300)]
    if scope != "random":
        largest = [
            float(b[w == 0].abs().max()) if c else 0 for b, w, c in zip(before, weights, cut, strict=True)
        ]
        for b, w, top in zip(before, weights, largest, strict=True):
            assert (b[w != 0].abs() > (max(largest) if scope == "global" else top)).all()
    for b, w in zip(before, weights, strict=True):
        assert torch.equal(w[w != 0], b[w != 0])


def test_quantized_weights_lie_on_a_grid_of_their_channel():
    weight = torch.randn(8, 4, 3, 3)
    for bits in (2, 4, 8):
        on_grid = rounded(weight, bits)
        step = weight.abs().flatten(1).amax(1) / (2 ** (bits - 1) - 1)
        multiples = on_grid / step.view(-1, 1, 1, 1)
        torch.testing.assert_close(multiples, multiples.round())
        assert ((on_grid - weight).abs() <= step.view(-1, 1, 1, 1) / 2 + 1e-6).all()
    assert not rounded(torch.zeros(2, 3), 8).any()


def test_activations_are_rounded_as_an_integer_runtime_does():
    seen, rounding = torch.randn(6, 3, 8, 8) * 2 + 1, Rounding()
    each = torch.stack([fake_quantized(image, image) for image in seen])
    torch.testing.assert_close(rounding(nn.Identity(), (seen,))[0], each)
    rounding.watching = True
    assert rounding(nn.Identity(), (seen,))[0] is seen
    rounding.watching = False
    wider = 3 * seen  # beyond the range: cut off
    torch.testing.assert_close(rounding(nn.Identity(), (wider,))[0], fake_quantized(wider, seen))


def fake_quantized(values: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    low, high = min(0.0, float(span.min())), max(0.0, float(span.max()))
    scale = (high - low) / 255
    return torch.fake_quantize_per_tensor_affine(values, scale, round(-low / scale), 0, 255)


@pytest.mark.parametrize("activations", ["dynamic", "static"])
def test_eight_bits_hardly_change_answers_and_names_stay(digits, activations):
    model = Small().eval()
    attacked = Quantize(activations=activations).run(model, digits, SPEC, run=quiet())
    assert list(attacked.model.state_dict()) == list(model.state_dict())
    assert attacked.record["cost"]["images"] == (0 if activations == "dynamic" else len(digits.train))
    before, after = (apply(m, digits.test, SPEC) for m in (model, attacked.model))
    assert 0 < (before - after).abs().max() < 0.1 * before.std()


def test_only_the_last_layer_moves_and_re_training_starts_it_anew(digits):
    model = Small()
    for variant in ("FTLL", "RTLL"):
        attacked = FineTune(variant=variant, epochs=0.2, batch_size=16).run(model, digits, SPEC, run=quiet())
        trunk = [k for k in model.state_dict() if not k.startswith("head")]
        for key in trunk:
            assert torch.equal(attacked.last.state_dict()[key], model.state_dict()[key]), key
        far = (attacked.last.head.weight - model.head.weight).norm() / model.head.weight.norm()
        assert far < 0.5 if variant == "FTLL" else far > 0.5
    everything = FineTune(epochs=0.2, batch_size=16).run(model, digits, SPEC, run=quiet())
    assert not torch.equal(everything.last.features[0].weight, model.features[0].weight)


def test_the_classifier_is_what_follows_the_last_other_layer(digits):
    vgg = VGG11(10)
    assert classifier_layers(vgg, SPEC.example()) == ["head.0", "head.3", "head.6"]
    assert classifier_layers(Small(), SPEC.example()) == ["head"]
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, 10))
    assert classifier_layers(plain, SPEC.example()) == ["3"]
    deep = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for variant, redrawn in (("RTAL", ("2", "4")), ("initFC-all", ("4",)), ("FTAL", ())):
        tuned = FineTune(variant=variant, epochs=0.1, lr=1e-6).run(deep, digits, SPEC, run=quiet()).last
        for name in ("0", "2", "4"):
            was, now = (m.get_submodule(name).weight for m in (deep, tuned))
            assert ((now - was).norm() > 0.1 * was.norm()) == (name in redrawn), (variant, name)


def test_the_strong_schedule_halves_after_each_sixth():
    factors = [Loop(steps=60, lr=1, schedule="halving").factor(step) for step in (0, 9, 10, 35, 59)]
    assert factors == [1, 1, 0.5, 1 / 8, 1 / 32]


def test_what_leaks_holds_the_classes_in_proportion(digits):
    half, again = (leaked(digits.train, 0.5, seed=1) for _ in range(2))
    assert len(half) == 60 and torch.equal(half.images, again.images)
    whole, part = (torch.bincount(s.labels, minlength=10) for s in (digits.train, half))
    assert (2 * part - whole).abs().max() <= 1
    attacked = FineTune(share=0.25, epochs=0.2).run(Small(), digits, SPEC, run=quiet())
    assert attacked.record["cost"]["images"] == 30


def test_zeros_are_kept_if_the_attacker_keeps_them(digits):
    model = Small()
    with torch.no_grad():
        model.features[4].weight[:8] = 0
    kept = FineTune(zeros="kept", epochs=0.3, batch_size=16).run(model, digits, SPEC, run=quiet())
    free = FineTune(epochs=0.3, batch_size=16).run(model, digits, SPEC, run=quiet())
    assert not kept.last.features[4].weight[:8].any() and free.last.features[4].weight[:8].any()


def test_the_best_state_and_the_last_are_both_there(digits):
    attacked = FineTune(variant="RTAL", epochs=4, lr=0.05, batch_size=16).run(
        Small(), digits, SPEC, run=quiet()
    )
    history = attacked.record["history"]
    assert attacked.after.value > attacked.before.value
    assert history["best_step"] in [v["step"] for v in history["validation"]]
    assert attacked.record["cost"]["images"] == len(digits.train) and attacked.record["cost"]["seconds"] > 0


def test_noise_is_as_large_as_asked(digits):
    model = Small()
    attacked = Perturb(noise=0.3, shift=0, epochs=0).run(model, digits, SPEC, run=quiet())
    was, now = model.features[4].weight, attacked.model.features[4].weight
    assert float(((now - was).std() / was.std()).detach()) == pytest.approx(0.3, rel=0.1)
    shifted = (
        Perturb(noise=0, shift=1, epochs=0).run(model, digits, SPEC, run=quiet()).model.features[4].weight
    )
    assert shifted.flatten(1).mean(1).abs().max() < 1e-6


def test_pruned_and_rounded_models_answer(digits):
    for attack in (Prune(share=0.5), Quantize(bits=8)):
        attacked = attack.run(Small(), digits, SPEC, run=quiet())
        assert 0 <= attacked.after.value <= 1 and attacked.record["cost"]["images"] == 0


def test_the_sharpness_aware_step_is_that_of_its_paper():
    weights = {
        "a": torch.tensor([1.0, -2.0], requires_grad=True),
        "b": torch.tensor([[0.5]], requires_grad=True),
    }
    gradients = (torch.tensor([3.0, 1.0]), torch.tensor([[-4.0]]))
    climbed = climb(weights, gradients, radius=0.5)
    scaled = np.array([1 * 3.0, 2 * 1.0, 0.5 * -4.0])
    step = 0.5 * np.array([1, 2, 0.5]) * scaled / np.linalg.norm(scaled)
    moved = torch.cat([climbed["a"].flatten(), climbed["b"].flatten()]).detach().numpy()
    np.testing.assert_allclose(moved, np.array([1.0, -2.0, 0.5]) + step, rtol=1e-6)
    climbed["a"].sum().backward()
    assert torch.equal(weights["a"].grad, torch.ones(2))  # the move itself is constant


def test_perturbed_images_come_in_four_groups():
    images = torch.randn(3, 2, 16, 16)
    clean, added, scaled, blurred = perturbed(images, 0.2, torch.Generator().manual_seed(0)).chunk(4)
    assert torch.equal(clean, images)
    assert float((added - images).std()) == pytest.approx(0.2, rel=0.1)
    assert float(((scaled - images) / images).std()) == pytest.approx(0.2, rel=0.1)
    flat = torch.full((1, 2, 16, 16), 0.7)
    assert torch.allclose(perturbed(flat, 0.2, torch.Generator())[3:], flat)
    assert blurred.std() < images.std()


def test_steadiness_counts_right_answers_on_clean_and_on_shaken_images(digits):
    model = Small().eval()
    clean, shaken = steadiness(model, digits.val, SPEC, noise=1e-6)
    right = float((apply(model, digits.val, SPEC).argmax(1) == digits.val.labels).float().mean())
    assert clean == pytest.approx(right) and 0 <= shaken <= 1


def test_pseudo_labels_follow_the_clusters_not_the_classifier():
    angles = torch.tensor([0.0, 0.1, 0.2, 1.4, 1.5, 1.6])
    points = torch.stack([angles.cos(), angles.sin()], 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 2, bias=False)
            self.head.weight.data = torch.eye(2)

        def forward(self, images):
            return self.head(images.flatten(1)[:, :2])

    memory = _Memory(Net(), 6, 2, 2)
    with torch.no_grad():
        memory.features.copy_(points)
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    images.view(6, -1)[:, :2] = ((points + 1) / 2 * 255).round().to(torch.uint8)
    split = Split(images, torch.tensor([0, 1, 0, 1, 0, 1]))
    memory.fill("head", split, InputSpec(size=4, channels=1), "fp32")
    assert memory.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("variant", ["SHOT", "NRC"])
def test_adaptation_never_looks_at_labels_and_leaves_the_head(digits, variant):
    shuffled = Split(digits.train.images, digits.train.labels.roll(7))
    other = digits.with_splits({"train": shuffled, "val": digits.val, "test": digits.test})
    model, attack = Small(), Adapt(variant=variant, epochs=0.5, batch_size=16)
    one, two = (attack.run(model, d, SPEC, run=quiet()) for d in (digits, other))
    assert one.record["result_hash"] == two.record["result_hash"]
    assert torch.equal(one.model.head.weight, model.head.weight)
    assert not torch.equal(one.model.features[0].weight, model.features[0].weight)


@pytest.mark.parametrize("kind", sorted(FILTERS))
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_filters_keep_shape_and_range_and_lose_more_when_stronger(digits, kind, strength):
    pixels = digits.test.images[:6].float() / 255
    filtered = FILTERS[kind](pixels, strength)
    assert filtered.shape == pixels.shape and filtered.min() >= 0 and filtered.max() <= 1
    lost = (filtered - pixels).square().mean()
    assert 0 < lost < 0.1
    assert lost <= (FILTERS[kind](pixels, 2 * strength) - pixels).square().mean()


def test_a_filtered_model_is_the_model_behind_the_filter(digits):
    model = Small().eval()
    attacked = Filter(filter="depth").run(model, digits, SPEC, run=quiet()).model
    images = torch.randn(3, 3, 32, 32).clamp(-1, 1)
    washed = FILTERS["depth"]((images + 1) / 2, 1.0) * 2 - 1
    torch.testing.assert_close(attacked(images), model(washed))


@pytest.mark.parametrize("strength", [0.5, 2.0, 4.0])
def test_our_jpeg_loses_what_a_real_one_does(strength):
    photos = patches(8, (48, 64), torch.Generator().manual_seed(3))
    coded = []
    for photo in photos:
        file = io.BytesIO()
        image = Image.fromarray(photo.permute(1, 2, 0).numpy())
        image.save(file, "JPEG", quality=round(90 - 20 * strength))
        coded.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    ours = FILTERS["jpeg"](photos / 255, strength) * 255 - photos
    theirs = torch.stack(coded).float() - photos
    likeness = torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1]
    assert likeness > 0.85 and 0.8 < ours.abs().mean() / theirs.abs().mean() < 1.25


def test_extraction_uses_answers_and_no_labels(digits):
    shuffled = Split(digits.train.images, digits.train.labels.roll(7))
    other = digits.with_splits({"train": shuffled, "val": digits.val, "test": digits.test})
    for answers in ("soft", "hard"):
        attack = Extract(answers=answers, epochs=0.5, batch_size=16)
        one, two = (attack.run(Small(), d, SPEC, run=quiet()) for d in (digits, other))
        assert one.record["result_hash"] == two.record["result_hash"] != one.record["attacked_hash"]
        assert one.record["cost"]["queries"] == len(digits.train) + len(digits.val)
    asked = Extract(images="digits | invert", epochs=0.05).run(Small(), digits, SPEC, run=quiet())
    assert asked.record["cost"]["queries"] > 10 * len(digits.train) and asked.after.n == len(digits.test)
    across = Extract(architecture="convnet", epochs=0.1).run(Small(), digits, SPEC, run=quiet())
    assert type(across.model).__name__ == "ConvNet"
    fused = Fused(Small(), Branch(10, pool=2)).eval()
    assert type(Extract(epochs=0.05).run(fused, digits, SPEC, run=quiet()).model) is Small


def test_a_finished_attack_found_again_still_has_its_last_state(digits, tmp_path):
    attack = FineTune(epochs=0.5, lr=0.05, batch_size=16)
    first, again = (
        attack.run(Small(), digits, SPEC, run=quiet(directory=tmp_path, checkpoint_seconds=0))
        for _ in range(2)
    )
    for (name, mine), theirs in zip(
        first.last.state_dict().items(), again.last.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_a_model_without_a_linear_head_is_a_problem_before_work(digits):
    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Conv2d(3, 10, 1)

        def forward(self, images):
            return self.last(images).mean((2, 3))

    assert [p.where for p in FineTune().problems(Convolutional(), digits, SPEC)] == ["Convolutional"]
