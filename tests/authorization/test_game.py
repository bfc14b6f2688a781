from __future__ import annotations

import copy

import pytest
import torch
from kit import Small
from torch import nn

from freehold.authorization.game import Game, rounds
from freehold.data.batches import Batch
from freehold.models.batch_statistics import batch_statistics


def test_target_batches_use_batch_statistics_and_leave_the_running_ones_alone():
    model = Small().train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with batch_statistics(model):
        through_batch = model(3 * images + 5)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert torch.equal(through_batch, copy.deepcopy(model)(3 * images + 5))  # as any training pass
    assert not torch.equal(through_batch, copy.deepcopy(model).eval()(3 * images + 5))
    model(images)
    assert not torch.equal(model.features[1].running_mean, before["features.1.running_mean"])


def batch(seed: int, count: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=draw)
    return Batch(torch.randn(count, 3, 16, 16, generator=draw), labels, torch.arange(count))


def play(threshold: float, **fields: float) -> tuple[Game, dict[str, torch.Tensor]]:
    game = Game(Small(), "head", 3, shared=False, rivalled=True, seed=0, threshold=threshold).train()
    fields = {"output": 1.0, "fisher": 10.0, "rivalry": 1.0, "bound": 10.0, **fields}
    objective = rounds(game, horizon=5, extra=lambda step: {}, **fields)
    terms = objective(game, {"source": batch(1), "target": batch(2), "rival": batch(3)}, 0)
    terms["loss"].backward()
    return game, terms


def gradients(game: Game) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in game.model.named_parameters()}


def test_behind_a_closed_gate_the_owner_feels_the_source_alone_and_the_thieves_learn_on():
    game, terms = play(0.0)
    alone = Small().train()
    source = batch(1)
    nn.functional.cross_entropy(alone(source.images), source.labels).backward()
    for name, parameter in alone.named_parameters():
        assert torch.allclose(gradients(game)[name], parameter.grad, atol=1e-6), name
    assert terms["gate open"] == 0
    assert game.reader.weight.grad.any() and game.rival_head.weight.grad.any()
    assert all(p.grad.any() for p in game.rival if p.dim() > 1)


def test_target_losses_above_the_bound_push_no_more():
    shut, _ = play(0.0)
    bounded, terms = play(100.0, bound=1e-3, fisher=0.0)
    assert terms["gate open"] == 1 and terms["rival loss"].item() == pytest.approx(1e-3)
    for name, gradient in gradients(shut).items():
        assert torch.allclose(gradients(bounded)[name], gradient, atol=1e-6), name
    free, _ = play(100.0, fisher=0.0)
    assert not torch.allclose(gradients(free)["features.4.weight"], gradients(shut)["features.4.weight"])


def test_the_owner_gets_the_gradient_at_the_rivals_place():
    game = Game(Small(), "head", 3, shared=False, rivalled=True, seed=0, threshold=100.0).train()
    objective = rounds(
        game, output=0.0, fisher=0.0, rivalry=1.0, bound=10.0, horizon=5, extra=lambda step: {}
    )
    game.restart(0, keep_head=False)
    with torch.no_grad():
        for parameter in game.rival:
            parameter.add_(0.01)
    source, attack = batch(1), batch(3)
    objective(game, {"source": source, "rival": attack}, 1)["loss"].backward()
    # By hand: a network with the rival's weights, and the source's gradient at the owner's.
    moved, owner = Small().train(), Small().train()
    moved.load_state_dict(dict(zip(game.names, game.rival, strict=True)), strict=False)
    with batch_statistics(moved):
        features = moved.features(attack.images[4:]).mean((2, 3))
    loss = -nn.functional.cross_entropy(game.rival_head(features), attack.labels[4:])
    nn.functional.cross_entropy(owner(source.images), source.labels).backward()
    loss.backward()
    for name in game.names:
        expected = owner.get_parameter(name).grad + moved.get_parameter(name).grad
        assert torch.allclose(gradients(game)[name], expected, atol=1e-5), name


def test_the_gate_follows_the_source_accuracy_within_bounds():
    game = Game(Small(), "head", 3, shared=False, rivalled=False, seed=0, threshold=0.1)
    game.steer(-0.01)
    assert game.threshold == pytest.approx(0.08)
    game.steer(0.01)
    assert game.threshold == pytest.approx(0.1)
    for _ in range(100):
        game.steer(1.0)
    assert game.threshold == pytest.approx(5.0)


def test_where_the_classes_are_the_same_the_owners_head_is_no_way_in_either():
    game = Game(Small(), "head", 10, shared=True, rivalled=True, seed=0, threshold=100.0).train()
    objective = rounds(
        game, output=1.0, fisher=0.0, rivalry=0.0, bound=10.0, horizon=5, extra=lambda step: {}
    )
    batches = {"source": batch(1), "target": batch(2), "rival": batch(3)}
    objective(game, batches, 0)["loss"].backward()
    shared = gradients(game)
    other = Game(Small(), "head", 10, shared=False, rivalled=True, seed=0, threshold=100.0).train()
    objective = rounds(
        other, output=1.0, fisher=0.0, rivalry=0.0, bound=10.0, horizon=5, extra=lambda step: {}
    )
    objective(other, batches, 0)["loss"].backward()
    # By hand: what the term adds is the gradient of minus the own head's loss, which leaves the head alone.
    alone = Small().train()
    with batch_statistics(alone):
        seen = alone.features(batch(2).images).mean((2, 3))
    head = alone.head.requires_grad_(False)
    (-nn.functional.cross_entropy(head(seen), batch(2).labels)).backward()
    for name in game.names:
        expected = gradients(other)[name] + alone.get_parameter(name).grad
        assert torch.allclose(shared[name], expected, atol=1e-5), name
    assert torch.equal(shared["head.weight"], gradients(other)["head.weight"])


def test_the_rival_keeps_the_owners_head_every_other_time():
    game = Game(Small(), "head", 10, shared=True, rivalled=True, seed=0, threshold=0.1)
    game.restart(5, keep_head=True)
    assert torch.equal(game.rival_head.weight, game.classifier.weight)
    game.restart(10, keep_head=False)
    assert not torch.equal(game.rival_head.weight, game.classifier.weight)
