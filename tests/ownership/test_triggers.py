from __future__ import annotations

import pytest
import torch
from kit import Small, quiet
from ownership_kit import SPEC, trigger_key

from freehold.data import Domains, InputSpec
from freehold.data.batches import fit_images
from freehold.data.sources import load_domain
from freehold.ownership.base import verify
from freehold.ownership.observation import Decision
from freehold.ownership.suspect import suspect
from freehold.ownership.trigger_set import TriggerSet
from freehold.ownership.triggers import KINDS, on_images, stamp, training_images, trial_images

KEY = trigger_key()
OWN = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def digits() -> Domains:
    return Domains(load_domain("digits", limit=600), [], InputSpec(size=16))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", [SPEC, InputSpec(size=(12, 20)), InputSpec(size=9, channels=1)])
def test_triggers_are_images_of_the_models_input_and_functions_of_the_key(kind, spec):
    images = trial_images(kind, KEY, 12, spec)
    assert images.dtype == torch.uint8 and images.shape == (12, spec.channels, *spec.size)
    assert torch.equal(images, trial_images(kind, KEY, 12, spec))
    assert not torch.equal(images, trial_images(kind, trigger_key(1), 12, spec))
    assert not torch.equal(images, trial_images(kind, KEY, 12, spec, branch="shown"))
    assert len(torch.unique(images.flatten(1), dim=0)) == 12
    assert images.float().flatten(1).std(1).min() > 2


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_two_keys_have_nothing_in_common(kind):
    one, two = (trial_images(kind, trigger_key(n), 30, SPEC).float().flatten(1) for n in (0, 1))
    centred = [x - x.mean(0) for x in (one, two)]
    likeness = torch.nn.functional.cosine_similarity(*centred)
    assert likeness.abs().mean() < 0.6 and likeness.mean().abs() < 0.3


@pytest.mark.parametrize("kind", ["abstract", "unrelated"])
def test_triggers_without_a_pattern_are_learned_as_they_are(kind):
    images, shown = training_images(kind, KEY, 10, SPEC, OWN, views=4)
    assert torch.equal(images, trial_images(kind, KEY, 10, SPEC)) and shown.tolist() == list(range(10))


def test_patterns_are_learned_on_several_images_and_tried_on_others():
    images, shown = training_images("content", KEY, 10, SPEC, OWN, views=4)
    trial = trial_images("content", KEY, 10, SPEC)
    assert images.shape[0] == 40 and shown.bincount().tolist() == [4] * 10
    for view in range(40):
        assert torch.equal(images[view, :, 4:], trial[shown[view], :, 4:])
        assert not torch.equal(images[view, :, :4], trial[shown[view], :, :4])
    assert torch.equal(images[:20, :, :4], OWN[:, :, :4])
    assert torch.equal(on_images("content", KEY, OWN[:10], SPEC), images[:10])


def test_stamping_is_opaque_or_half_and_half():
    black, white = (
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.full((1, 3, 4, 4), 255, dtype=torch.uint8),
    )
    assert stamp("content", white, black)[0, 0].float().mean(1).tolist() == [0, 0, 255, 255]
    assert stamp("noise", white, black).unique().tolist() == [128]


def test_labels_are_not_a_function_of_the_images():
    """Two keys with equal images have unrelated labels: the streams share nothing but the secret."""
    labels = KEY.stream("labels").integers(10, 100)
    for kind in KINDS:
        brightness = trial_images(kind, KEY, 100, SPEC).float().flatten(1).mean(1)
        assert abs(float(torch.corrcoef(torch.stack([brightness, labels.float()]))[0, 1])) < 0.35


def test_patterns_are_known_on_images_they_were_never_on(digits):
    method = TriggerSet(
        kind_of_trigger="content", start="untrained", recipe="plain", weight=1, lr=1e-2, steps=80,
        triggers=20, batch_size=16, trigger_batch=64,
    )  # fmt: skip
    marked = method.protect(Small(), digits, run=quiet(), key=trigger_key())
    found = verify(suspect(marked.model, input=digits.input), marked.key, commitment=marked.key.commitment)
    assert found.decision == Decision.MATCH
    assert marked.record["figures"]["triggers on held-out images"] > 0.5


def test_held_out_images_carry_the_trials_patterns_and_are_not_learned_from(digits):
    method = TriggerSet(kind_of_trigger="content", triggers=10)
    key = trigger_key(method=method)
    taught, held_out = method._splits(key, digits.authorized, SPEC, 0)
    images, trial = held_out.images, method._images(key)
    assert torch.equal(images[:, :, 4:], trial[:, :, 4:])
    assert torch.equal(held_out.labels, method._trials(key).labels)

    def tops(some: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in some[:, :, :4]}

    assert tops(images) <= tops(fit_images(digits.authorized.val.images, SPEC))
    assert not tops(images) & tops(taught.images)
