"""What PTYNet draws, wears and learns from."""

from __future__ import annotations

import pytest
import torch

from freehold.data import InputSpec, Split
from freehold.data.batches import denormalise, normalise
from freehold.keys import Key, Stream
from freehold.ownership import branch
from freehold.ownership.backgrounds import Foregrounds, backgrounds, near_misses
from freehold.ownership.branch import Lessons
from freehold.ownership.distortions import distorted
from freehold.seeds import generator

SPECS = [InputSpec(size=16), InputSpec(size=(12, 20), channels=1), InputSpec(size=32)]


def stream(number: int = 0) -> Stream:
    return Key(number.to_bytes(32, "big"), method="ptynet").stream("backgrounds", "trial")


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_backgrounds_come_back_from_the_key_and_from_no_other(spec):
    first, again, other = (backgrounds(stream(n), 6, spec) for n in (0, 0, 1))
    assert first.shape == (6, spec.channels, *spec.size) and first.dtype == torch.uint8
    assert torch.equal(first, again)
    apart = (first.float()[:, None] - torch.cat([first, other]).float()).abs().flatten(2).mean(2)
    apart.fill_diagonal_(255)
    assert apart.min() > 20


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_things_cover_some_of_the_ground_and_leave_the_rest(spec):
    things, grounds = Foregrounds(stream(), 40, spec), backgrounds(stream(1), 40, spec)
    images = things.before(grounds)
    assert images.shape == grounds.shape and images.dtype == torch.uint8
    kept = (images == grounds).all(1).float().mean((1, 2))
    assert kept.min() > 0.3 and kept.max() < 0.95
    taken = things.take(torch.tensor([3, 3, 0]))
    assert torch.equal(taken.before(grounds[:3]), torch.stack([
        Foregrounds(stream(), 40, spec).take(torch.tensor([n])).before(grounds[i : i + 1])[0]
        for i, n in enumerate((3, 3, 0))
    ]))  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_near_misses_are_near_and_miss(spec, count):
    own, others = backgrounds(stream(), count, spec), backgrounds(stream(1), count, spec)
    found = near_misses(own, others, generator(0, "near"))
    assert found.shape == own.shape and found.dtype == torch.uint8
    assert (found.float() - own.float()).abs().mean((1, 2, 3)).min() > 8
    if count == 40:
        blurred, turned, coloured, partial = found.tensor_split(4)
        assert blurred.float().std((2, 3)).mean() < own.float().std((2, 3)).mean()
        assert torch.equal(turned.flatten(1).sort(1).values, own[10:20].flatten(1).sort(1).values)
        same = (partial == own[30:]).all(1).float().mean((1, 2))
        assert (same > 0.45).all() and (same < 0.65).all()
        assert (coloured != own[20:30]).any(1).float().mean() > 0.9


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_distorted_images_repeat_with_their_draws_and_leave_the_originals(spec):
    images = backgrounds(stream(), 32, spec)
    before = images.clone()
    first, again = (distorted(images, generator(4, "wear")) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(images, before)
    assert first.shape == images.shape and first.dtype == torch.uint8
    changed = (first != images).flatten(1).any(1)
    assert changed.float().mean() > 0.8
    assert (first.float() - images.float()).abs().mean() < 60
    assert distorted(images[:1], generator(0, "one")).shape == images[:1].shape


def lessons(**changes) -> Lessons:
    spec = InputSpec(size=16)
    ordinary = Split(
        torch.randint(256, (30, 3, 16, 16), generator=generator(0, "o")).byte(), torch.arange(30) % 3
    )
    given = {"spec": spec, "classes": 10, "batch_size": 40, "seed": 0, **changes}
    return Lessons(backgrounds(stream(), 5, spec), torch.tensor([3, 1, 4, 1, 5]), ordinary, **given)


def spied(monkeypatch, name: str) -> list[tuple]:
    """What goes into and comes out of a function that lessons call."""
    calls, real = [], getattr(branch, name)

    def spy(*given):
        calls.append((*given, real(*given)))
        return calls[-1][-1]

    monkeypatch.setattr(branch, name, spy)
    return calls


def same(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Share of the pixels of each image that are those of its partner."""
    return (images == others).all(1).float().mean((1, 2))


def test_a_lesson_is_a_function_of_its_step():
    first, again, other = lessons().batch(7), lessons().batch(7), lessons().batch(8)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images, lessons(seed=1).batch(7).images)


@pytest.mark.parametrize("batch_size", [8, 40, 128])
def test_a_lesson_holds_own_backgrounds_and_a_majority_of_others(batch_size):
    batch = lessons(batch_size=batch_size).batch(0)
    assert len(batch) == batch_size and batch.images.shape == (batch_size, 3, 16, 16)
    own = batch.labels != 10
    assert 0.2 < own.float().mean() < 0.5 and set(batch.labels[own].tolist()) <= {1, 3, 4, 5}
    assert bool((denormalise(batch.images, InputSpec(size=16)).float().std((1, 2, 3)) > 0).all())


def test_a_lesson_shows_its_images_distorted_and_nothing_else(monkeypatch):
    calls = spied(monkeypatch, "distorted")
    batch = lessons().batch(3)
    [(images, _, worn)] = calls
    assert len(images) == 40 and (images != worn).flatten(1).any(1).float().mean() > 0.8
    assert torch.equal(batch.images, normalise(worn, InputSpec(size=16)))


@pytest.mark.parametrize("sizes", [(14, 12, 8, 6), (35, 30, 20, 15)], ids=sum)
def test_a_lesson_teaches_none_for_ordinary_images_others_backgrounds_and_near_misses(monkeypatch, sizes):
    worn, drawn, missed = (spied(monkeypatch, name) for name in ("distorted", "backgrounds", "near_misses"))
    lesson = lessons(batch_size=sum(sizes))
    batch = lesson.batch(0)
    marked, usual, strange, near = worn[0][0].split(sizes)
    labels = batch.labels.split(sizes)
    assert all((part == 10).all() for part in labels[1:])
    for image, label in zip(marked, labels[0], strict=True):
        assert label in lesson.labels[same(image, lesson.own) > 0.3]

    [(_, count, _, grounds)], [(own, others, _, misses)] = drawn, missed
    foreign = grounds[: sizes[2]]
    assert count == len(grounds) == sizes[2] + sizes[3] and torch.equal(others, grounds[sizes[2] :])
    assert len(own) == sizes[3] and (own[:, None] == lesson.own).flatten(2).all(2).any(1).all()
    assert same(strange, foreign).min() > 0.3 and same(near, misses).min() > 0.3

    ordinary = (lesson.ordinary[:, None] == foreign).flatten(2).all(2).any(0)
    assert ordinary.sum() == sizes[2] // 3
    apart = (foreign[~ordinary, None].float() - lesson.own.float()).abs().flatten(2).mean(2)
    assert apart.min() > 20

    before_own = same(strange, marked[: sizes[2]])
    assert before_own.min() > 0.02 and same(strange, marked[1 : 1 + sizes[2]]).max() < before_own.mean()
    plain = usual[sizes[1] // 2 :]
    assert (plain[:, None] == lesson.ordinary).flatten(2).all(2).any(1).all()
