from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from freehold.data import (
    SHIFTS,
    Blur,
    Colour,
    Contrast,
    Invert,
    Noise,
    Quantize,
    Rotate,
    Texture,
    load_domain,
    parse_shift,
)
from freehold.data.photographs import patches
from freehold.errors import ConfigError, DataError, UsageError


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Six 40x24 crops of a real photograph, uint8 (6, 3, 40, 24)."""
    china = load_sample_images().images[0]
    crops = [china[100 + 30 * i : 140 + 30 * i, 90 * i : 90 * i + 24] for i in range(6)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_shift_keeps_the_form_and_repeats_by_seed(photo, name, channels):
    shift, images = SHIFTS[name](), photo[:, :channels]
    before = images.clone()
    once, again = shift(images, stream()), shift(images, stream())
    assert torch.equal(once, again)
    assert torch.equal(images, before)
    assert once.dtype == torch.uint8
    assert once.shape == (6, 3 if name in ("colour", "texture") else channels, 40, 24)
    assert not torch.equal(once[:, :channels], images)
    if name in ("colour", "texture", "noise"):
        assert not torch.equal(shift(images, stream(1)), once)


@pytest.mark.parametrize("name", SHIFTS)
def test_every_field_has_a_unit_a_range_and_a_description(name):
    for field, schema in SHIFTS[name].model_json_schema().get("properties", {}).items():
        assert {"unit", "description", "default"} <= set(schema), field
        assert any("inimum" in key for key in schema) and any("aximum" in key for key in schema), field


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)])
def test_shifts_refuse_other_tensors(wrong):
    with pytest.raises(DataError, match=r"shift invert: expected uint8 \(B, C, H, W\)"):
        Invert()(wrong, stream())


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotate_by_right_angles_is_exact_and_anticlockwise(photo, degrees, turns):
    square = photo[:, :, :24]
    expected = torch.rot90(square, turns, (2, 3))
    assert (Rotate(degrees=degrees)(square, stream()).int() - expected.int()).abs().max() <= 1


def test_rotate_agrees_with_scipy_inside_the_frame(photo):
    """The aspect ratio must not shear: tall images turn in pixels."""
    image = photo[0, 0].numpy()
    expected = ndimage.rotate(image.astype(float), 20, reshape=False, order=1, mode="mirror")
    got = Rotate(degrees=20)(photo[:1, :1], stream())[0, 0].numpy()
    assert np.abs(got[12:28, 7:17] - expected[12:28, 7:17]).max() < 1.5


def test_invert_is_the_negative(photo):
    assert torch.equal(Invert()(photo, stream()), 255 - photo)


def test_colour_keeps_the_order_of_levels_and_tints_grey_images():
    ramp = torch.arange(0, 256, 16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(50, 1, 1, 1)
    tinted = Colour(strength=1.0)(ramp, stream()).flatten(2).int()
    assert tinted.shape == (50, 3, 16)
    assert bool((tinted.diff(dim=2) >= 0).all())
    assert tinted[:, :, 0].max() <= 128 and tinted[:, :, 15].min() >= 119
    assert len({tuple(image[:, 8].tolist()) for image in tinted}) > 40


def test_texture_is_the_absolute_difference_with_a_patch_of_the_photographs(photo):
    blended = Texture()(torch.zeros(20, 1, 16, 16, dtype=torch.uint8), stream())
    views = [
        np.lib.stride_tricks.sliding_window_view(p, (16, 16), (0, 1)) for p in load_sample_images().images
    ]
    for patch in blended.numpy():
        corner = patch[:, 0, 0]
        hits = [v[np.all(v[..., 0, 0] == corner, axis=-1)] for v in views]
        assert any(np.any(np.all(h == patch, axis=(1, 2, 3))) for h in hits)
    white = Texture()(torch.full((20, 1, 16, 16), 255, dtype=torch.uint8), stream())
    assert torch.equal(white, 255 - blended)
    faint = Texture(strength=0.5)(torch.zeros(20, 1, 16, 16, dtype=torch.uint8), stream())
    assert (faint.float() - blended.float() / 2).abs().max() <= 0.5


def test_patches_stay_in_their_columns():
    china, flower = (torch.from_numpy(p.copy()) for p in load_sample_images().images)
    found = patches(64, (32, 32), stream(), columns=[(64, 128), (600, 640)])
    windows = torch.cat(
        [p.unfold(0, 32, 1).unfold(1, 32, 1)[:, c] for p in (china, flower) for c in _starts()]
    )
    known = {bytes(w.numpy().tobytes()) for w in windows[:, :, 0, :8].reshape(len(windows), -1)}
    assert all(patch[:, 0, :8].numpy().tobytes() in known for patch in found)


def _starts() -> list[int]:
    return [*range(64, 128 - 31), *range(600, 640 - 31)]


def test_patches_larger_than_the_photographs_enlarge_them():
    assert patches(2, (500, 700), stream()).shape == (2, 3, 500, 700)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 8.0])
def test_blur_agrees_with_scipy(photo, sigma):
    got = Blur(sigma=sigma)(photo, stream()).numpy()
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(
        photo.numpy().astype(float), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, radius, radius)
    )
    assert np.abs(got - expected).max() < 0.51


def test_noise_has_the_standard_deviation_it_names():
    grey = torch.full((64, 3, 16, 16), 128, dtype=torch.uint8)
    noise = Noise(std=15)(grey, stream()).float() - 128
    assert abs(float(noise.std()) - 15) < 0.3
    assert abs(float(noise.mean())) < 0.3


def test_contrast_scales_about_the_mean_of_each_image(photo):
    half = Contrast(factor=0.5)(photo, stream()).double()
    mean = photo.double().mean((1, 2, 3), keepdim=True)
    assert (half - (mean + photo) / 2).abs().max() <= 0.51


@pytest.mark.parametrize("quality", [5, 20, 50, 90])
def test_quantize_agrees_with_real_jpeg_on_grey_images(photo, quality):
    ours = Quantize(quality=quality)(photo[:, :1], stream())[:, 0].numpy().astype(int)
    jpegs = []
    for image in photo[:, 0].numpy():
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
        jpegs.append(np.asarray(Image.open(file)).astype(int))
    off = np.abs(ours - np.stack(jpegs))
    # The real coder's integer DCT rounds a few coefficients that lie on a tie to the other side.
    assert off.mean() < 0.4
    assert (off <= 2).mean() > 0.96


def test_quantize_takes_sides_that_are_no_multiple_of_eight(photo):
    assert Quantize()(photo[:, :, :13, :5], stream()).shape == (6, 3, 13, 5)


def test_shifts_compose_in_order_through_the_domain_text():
    one = load_domain("digits | rotate=15 | noise", seed=2, limit=30)
    other = load_domain("digits", seed=2, limit=30).shifted(Rotate(degrees=15), Noise(), seed=2)
    assert one.name == other.name == "digits+rotate(15)+noise(20)"
    assert torch.equal(one.test.images, other.test.images)
    assert one.record == other.record
    assert not torch.equal(
        one.test.images, load_domain("digits | noise | rotate=15", seed=2, limit=30).test.images
    )


def test_parse_shift_reads_values_defaults_and_spaces():
    assert parse_shift("rotate=30") == parse_shift(" rotate = 30 ") == Rotate(degrees=30)
    assert parse_shift("blur") == Blur()
    assert parse_shift("invert") == Invert()
    assert parse_shift("quantize=7") == Quantize(quality=7)


def test_parse_shift_says_what_is_wrong():
    with pytest.raises(UsageError, match=r"unknown shift 'rotat' \(did you mean 'rotate'\?\)"):
        parse_shift("rotat=3")
    with pytest.raises(UsageError, match="takes no value"):
        parse_shift("invert=1")
    for text in (
        "rotate=much",
        "rotate=500",
        "rotate=nan",
        "rotate=",
        "quantize=0",
        "quantize=2.5",
        "blur=0",
    ):
        with pytest.raises(ConfigError, match=r"Rotate\.degrees|Quantize\.quality|Blur\.sigma"):
            parse_shift(text)
