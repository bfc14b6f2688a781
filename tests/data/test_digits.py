from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images

from freehold.data import InputSpec, fit_images, load_domain


@pytest.fixture(scope="module")
def real() -> dict[bytes, int]:
    """Every real digit with its label, by its levels."""
    bunch = load_digits()
    levels = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    return {image.tobytes(): int(label) for image, label in zip(levels, bunch.target, strict=True)}


def test_digits_are_the_real_ones_each_in_one_split(real):
    domain = load_domain("digits")
    seen = []
    for split in domain.splits().values():
        keys = [image.numpy().tobytes() for image in split.images]
        assert [real[key] for key in keys] == split.labels.tolist()
        seen += keys
    assert len(seen) == 1797
    assert set(seen) == set(real)
    assert domain.record["sizes"] == {"train": 1079, "val": 359, "test": 359}
    assert domain.classes == tuple("0123456789")


def test_digit_splits_are_stratified_and_seeded():
    domain, other = load_domain("digits"), load_domain("digits", seed=1)
    whole = torch.cat([split.labels for split in domain.splits().values()]).bincount() / 1797
    for split in domain.splits().values():
        assert (split.labels.bincount() / len(split) - whole).abs().max() < 0.005
    assert not torch.equal(domain.test.images, other.test.images)


def test_digits_m_are_the_same_digits_on_photographs():
    plain, textured = load_domain("digits", seed=3), load_domain("digits-m", seed=3)
    copies = textured.record["patches"]["patches_per_digit"]
    for key, split in textured.splits().items():
        assert torch.equal(split.labels, plain.splits()[key].labels.repeat(copies[key]))
        # |photograph - ink| is at most ink, or what is left above it.
        ink = fit_images(plain.splits()[key].images, InputSpec(size=32)).repeat(copies[key], 1, 1, 1)
        assert bool((split.images <= torch.maximum(ink, 255 - ink)).all())
    assert textured.train.images.shape == (12 * 1079, 3, 32, 32)


def test_digits_m_patches_come_from_bands_no_other_split_uses():
    plain, textured = load_domain("digits"), load_domain("digits-m")
    bands = textured.record["patches"]["bands"]
    assert sorted(band for of_split in bands.values() for band in of_split) == list(range(10))
    photos = [torch.from_numpy(p.copy()) for p in load_sample_images().images]
    for key in ("val", "test"):
        # The corner pixels of a digit that has no ink there are those of the photograph.
        ink = fit_images(plain.splits()[key].images, InputSpec(size=32, channels=1))
        clean = (ink[:, 0, 8:24, :2] == 0).flatten(1).all(1)
        strips = textured.splits()[key].images[clean][:, :, 8:24, :2]
        assert len(strips) > 50
        known = set()
        for photo in photos:
            for band in bands[key]:
                windows = photo[:, 64 * band : 64 * band + 34].unfold(0, 16, 1).unfold(1, 2, 1)
                known |= {w.numpy().tobytes() for w in windows.flatten(0, 1)}
        assert all(strip.numpy().tobytes() in known for strip in strips)


def test_the_same_seed_gives_the_same_digits_m():
    one, two, other = (load_domain("digits-m", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.train.images, two.train.images)
    assert not torch.equal(one.train.images, other.train.images)
