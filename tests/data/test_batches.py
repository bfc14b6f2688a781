from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from freehold.data import Augment, Batches, InputSpec, Split, fit_images, normalise, sequential
from freehold.errors import ConfigError, UsageError

SPEC = InputSpec(size=8)


def test_a_batch_is_a_function_of_seed_and_step(split):
    options = {"seed": 3, "augment": Augment(shift=2, flip=True)}
    forward, jumping = (Batches(split(), SPEC, 6, **options) for _ in range(2))
    seen = [forward.batch(step) for step in range(10)]
    for step in (9, 0, 4, 4, 7):
        again = jumping.batch(step)
        assert torch.equal(again.images, seen[step].images)
        assert torch.equal(again.indices, seen[step].indices)
    other = Batches(split(), SPEC, 6, **{**options, "seed": 4})
    assert not torch.equal(other.batch(0).indices, seen[0].indices)


def test_every_pass_shows_each_image_once_in_a_new_order(split):
    stream = Batches(split(count=20), SPEC, 6)
    rows = torch.cat([stream.batch(step).indices for step in range(10)])  # three passes; batches straddle
    passes = rows.view(3, 20)
    assert all(sorted(one.tolist()) == list(range(20)) for one in passes)
    assert not torch.equal(passes[0], passes[1])
    assert stream.batches_per_epoch == 4


def test_a_batch_larger_than_the_split_takes_several_passes(split):
    rows = Batches(split(count=5), SPEC, 12).batch(0).indices
    assert len(rows) == 12
    assert sorted(rows[:5].tolist()) == sorted(rows[5:10].tolist()) == list(range(5))


def test_a_batch_holds_the_rows_it_names(split):
    data = split()
    batch = Batches(data, SPEC, 7, seed=1).batch(2)
    assert len(batch) == 7
    assert torch.equal(batch.labels, data.labels[batch.indices])
    expected = data.images[batch.indices].double() / 127.5 - 1
    assert torch.allclose(batch.images.double(), expected, atol=1e-6)
    assert batch.images.dtype == torch.float32


@pytest.mark.parametrize("world", [2, 3, 4])
def test_shards_make_up_the_global_batch(split, world):
    options = {"seed": 5, "augment": Augment(shift=3, flip=True)}
    whole = Batches(split(), SPEC, 12, **options)
    parts = [Batches(split(), SPEC, 12, shard=(rank, world), **options) for rank in range(world)]
    for step in (0, 1, 5):
        expected, got = whole.batch(step), [part.batch(step) for part in parts]
        assert torch.equal(torch.cat([g.indices for g in got]), expected.indices)
        assert torch.equal(torch.cat([g.images for g in got]), expected.images)
        assert torch.equal(torch.cat([g.labels for g in got]), expected.labels)


@pytest.mark.parametrize(
    ("size", "shard"), [(0, (0, 1)), (-4, (0, 1)), (5, (0, 2)), (4, (2, 2)), (4, (0, 0))]
)
def test_impossible_sizes_and_shards_are_refused(split, size, shard):
    with pytest.raises(UsageError):
        Batches(split(), SPEC, size, shard=shard)


def test_translation_moves_each_image_by_its_own_offset_and_repeats_edges():
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(200, 3, 1, 1)
    data = Split(ramp, torch.arange(200) % 2)
    moved = Batches(data, SPEC, 200, augment=Augment(shift=2)).batch(0).images
    levels = ((moved + 1) * 127.5).round().long()
    padded = np.pad(ramp[0, 0].numpy(), 2, mode="edge")
    windows = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(5) for x in range(5)}
    offsets = {windows[image[0].to(torch.uint8).numpy().tobytes()] for image in levels}
    assert len(offsets) == 25
    assert torch.equal(levels[:, 0], levels[:, 2])


def test_flip_mirrors_about_half_the_images():
    data = Split(torch.arange(8, dtype=torch.uint8).expand(400, 1, 8, 8), torch.arange(400) % 2)
    levels = Batches(data, InputSpec(size=8, channels=1), 400, augment=Augment(flip=True)).batch(0).images
    mirrored = levels[:, 0, 0, 0] > levels[:, 0, 0, 7]
    assert 150 < int(mirrored.sum()) < 250
    assert torch.equal(levels[mirrored][0], levels[~mirrored][0].flip(2))


def test_augment_refuses_negative_shifts():
    with pytest.raises(ConfigError, match=r"Augment.shift"):
        Augment(shift=-1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "target"), [(8, 32), (28, 32), (40, 32), (32, 32)])
def test_fit_images_agrees_with_pillow(channels, side, target):
    """Pillow's bilinear filter is antialiased when shrinking and plain when growing, as ours."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, channels, side, side), np.uint8))
    fitted = fit_images(images, InputSpec(size=target))
    assert fitted.shape == (3, 3, target, target)
    assert fitted.dtype == torch.uint8
    for image, got in zip(images, fitted, strict=True):
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        expected = np.asarray(Image.fromarray(pixels).resize((target, target), Image.Resampling.BILINEAR))
        assert np.abs(got.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_fit_images_to_grey_agrees_with_pillow():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8))
    grey = fit_images(images, InputSpec(size=8, channels=1))
    expected = np.stack(
        [np.asarray(Image.fromarray(i.permute(1, 2, 0).numpy()).convert("L")) for i in images]
    )
    assert grey.shape == (2, 1, 8, 8)
    assert np.abs(grey[:, 0].numpy().astype(int) - expected).max() <= 1


def test_fit_images_goes_in_chunks_without_a_trace():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 1024, 512), np.uint8))
    spec = InputSpec(size=(16, 24))
    assert torch.equal(fit_images(images, spec), torch.cat([fit_images(one[None], spec) for one in images]))


def test_normalise_follows_the_spec_and_the_layout():
    spec = InputSpec(size=4, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8))
    mean, std = np.array(spec.mean)[:, None, None], np.array(spec.std)[:, None, None]
    expected = (images.numpy() / 255 - mean) / std
    for last in (False, True):
        got = normalise(images, spec, channels_last=last)
        layout = torch.channels_last if last else torch.contiguous_format
        assert got.is_contiguous(memory_format=layout)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_sequential_keeps_order_and_stops_at_the_limit(split):
    data = split(count=20)
    batches = list(sequential(data, SPEC, 8))
    assert [len(b) for b in batches] == [8, 8, 4]
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(20))
    assert torch.equal(torch.cat([b.labels for b in batches]), data.labels)
    assert torch.equal(torch.cat([b.images for b in batches]), normalise(data.images, SPEC))
    assert [len(b) for b in sequential(data, SPEC, 8, limit=10)] == [8, 2]
    assert [len(b) for b in sequential(data, SPEC, 8, limit=99)] == [8, 8, 4]
