"""Ambiguity attacks on passports: what a false claimant makes out of a released model, without any secret.

All of these give a :class:`~freehold.attacks.published.PassportClaim`, which the published protocol judges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from freehold.attacks.published import ClaimedLayer, PassportClaim, unit_filters
from freehold.data.batches import Augment
from freehold.data.domain import InputSpec, Split
from freehold.errors import ModelError
from freehold.models.norm_pairs import NormPair, norm_pairs
from freehold.models.two_branches import TwoBranches
from freehold.seeds import generator
from freehold.training import History, Loop, Trainer
from freehold.training.classifier import cross_entropy


def forgeable(model: nn.Module, example: Tensor) -> tuple[NormPair, ...]:
    """Layers that have passports for any scale, shift and bits whatsoever: those of independent filters.

    What a filter sees of a passport is linear in it, so that with no more filters than weights in each there
    is one for every wish.

    Raises:
        ModelError: there is no such layer, or the model cannot process ``example (B, C, H, W)``.
    """
    found = tuple(pair for pair in norm_pairs(model, example) if pair.channels <= pair.fan_in)
    if not found:
        raise ModelError(
            "no norm layer follows a layer with fewer filters than weights in each", where="model"
        )
    return found


def random_passports(
    like: Sequence[ClaimedLayer],
    rng: torch.Generator,
    statistics: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> PassportClaim:
    """Standard normal passports and fair bits of one's own, all else as in ``like``: h and statistics known.

    The attack that the publications report robustness against ("fake1").
    """
    return PassportClaim(
        tuple(
            ClaimedLayer(
                layer.pair,
                torch.randn(layer.scale.shape, generator=rng),
                torch.randn(layer.shift.shape, generator=rng),
                torch.randint(2, layer.bits.shape, generator=rng),
                layer.h,
            )
            for layer in like
        ),
        statistics or {},
    )


@torch.no_grad()
def closed_form(
    model: nn.Module, example: Tensor, bits: Callable[[NormPair], Tensor], seed: int = 0
) -> PassportClaim:
    """Passports, h and bits under which the private branch is the public one: no data, no training.

    Random passports are moved by the smallest step to where the filters show the wanted signs; then
    the second matrix of a two-layer h is one pseudo-inverse away from giving the public scale and shift.
    The private statistics are the public ones.

    Args:
        model: as released.
        example: ``(B, C, H, W)``.
        bits: the signature that the forger would like to have written into a layer, int64 ``(channels,)``.
        seed: of the passports.

    Raises:
        ModelError: see :func:`forgeable`.
    """
    layers = []
    for pair in forgeable(model, example):
        rng = generator(seed, "closed form", pair.layer)
        filters, chosen = unit_filters(model, pair), bits(pair)
        scale, shift = torch.randn(2, pair.fan_in, generator=rng)
        wanted = (2 * chosen - 1) * (filters @ scale).abs().clamp_min(0.1)
        scale = scale + torch.linalg.pinv(filters) @ (wanted - filters @ scale)
        norm = model.get_submodule(pair.norm)
        targets = torch.stack([norm.weight, norm.bias])  # type: ignore[list-item]
        h = _two_layers(torch.stack([filters @ scale, filters @ shift]), targets, rng)
        layers.append(ClaimedLayer(pair, scale, shift, chosen, h))
    return PassportClaim(tuple(layers))


@torch.no_grad()
def explained(model: nn.Module, forged: nn.Module, example: Tensor) -> PassportClaim:
    """Passports without h for a network with the model's filters and norms of a forger's own.

    Args:
        model: as released.
        forged: the same filters, other norms; see :class:`~freehold.attacks.substitute.Substitute`.
        example: ``(B, C, H, W)``.

    Returns:
        A claim whose private branch is ``forged``; its bits are the signs of the forged scales.

    Raises:
        ModelError: see :func:`forgeable`.
    """
    layers, norms = [], {}
    for pair in forgeable(model, example):
        scale, shift = (forged.get_parameter(f"{pair.norm}.{name}").float() for name in ("weight", "bias"))
        inverse = torch.linalg.pinv(unit_filters(model, pair))
        layers.append(ClaimedLayer(pair, inverse @ scale, inverse @ shift, (scale > 0).long()))
        norms[pair.norm] = dict(forged.get_submodule(pair.norm).named_buffers())
    return PassportClaim(tuple(layers), norms)


class LearnedPassports(nn.Module):
    """``forward(model)`` gives scale and shift of each layer out of passports that are parameters.

    Args:
        pairs: the layers.
        nets: h of each layer; those whose parameters require a gradient are learned along.
        seed: of the first passports, standard normal.
    """

    def __init__(self, pairs: Sequence[NormPair], nets: Sequence[nn.Module], seed: int = 0) -> None:
        super().__init__()
        self.pairs, self.nets = tuple(pairs), nn.ModuleList(nets)
        self.passports = nn.ParameterList(
            torch.randn(2, pair.fan_in, generator=generator(seed, "passports", pair.layer)) for pair in pairs
        )

    def forward(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Scale and shift of each layer, ``(C,)`` each."""
        found = []
        with torch.autocast(self.passports[0].device.type, enabled=False):
            for pair, net, passports in zip(self.pairs, self.nets, self.passports, strict=True):
                scale, shift = net(passports @ unit_filters(model, pair).T)
                found.append((scale, shift))
        return found

    @torch.no_grad()
    def claim(self, model: nn.Module, statistics: Mapping[str, Mapping[str, Tensor]]) -> PassportClaim:
        """The claim that rests on these passports; its bits are what they happen to show."""
        layers = []
        for pair, net, passports in zip(self.pairs, self.nets, self.passports, strict=True):
            bits = (unit_filters(model, pair) @ passports[0] > 0).long()
            scale, shift = passports.detach().clone()
            layers.append(ClaimedLayer(pair, scale, shift, bits, net))
        return PassportClaim(tuple(layers), statistics)


def reverse_engineered(
    model: nn.Module,
    images: Split,
    spec: InputSpec,
    trainer: Trainer,
    *,
    nets: Mapping[str, nn.Module] | None = None,
    steps: int = 300,
    lr: float = 0.01,
) -> PassportClaim:
    """Passports that were optimised for the accuracy of the private branch, all filters frozen.

    Args:
        model: as released; a copy is worked on.
        images: the forger's, labelled.
        spec: the model's input.
        trainer: of the fit.
        nets: the owner's h by layer, if it leaked ("fake2"); by default h is the forger's and learned along.
        steps: of Adam on batches of 64 (published: 100 epochs of SGD).
        lr: learning rate.

    Raises:
        ModelError: see :func:`forgeable`.
    """
    pairs = forgeable(model, spec.example())
    if nets is not None:
        pairs = tuple(pair for pair in pairs if pair.layer in nets)
    rng = generator(trainer.run.seed, "h")
    own = [
        nets[pair.layer].requires_grad_(False) if nets is not None else hidden_net(pair.channels, rng)
        for pair in pairs
    ]
    affine = LearnedPassports(pairs, own, trainer.run.seed)
    statistics, _ = fit_private(model, pairs, affine, images, spec, trainer, Loop(steps=steps, lr=lr))
    return affine.cpu().claim(model, statistics)


def fit_private(
    model: nn.Module,
    pairs: Sequence[NormPair],
    affine: nn.Module,
    images: Split,
    spec: InputSpec,
    trainer: Trainer,
    loop: Loop,
) -> tuple[dict[str, dict[str, Tensor]], History]:
    """Train ``affine``, which gives the norms' scales and shifts, for the task; the filters stay.

    Args:
        model: not changed.
        pairs: whose norms are replaced.
        affine: as :class:`~freehold.models.two_branches.TwoBranches` takes it.
        images: labelled.
        spec: the model's input.
        trainer: of the fit.
        loop: its length.

    Returns:
        Running statistics of the replaced norms, by norm and buffer, and the history.
    """
    body = copy.deepcopy(model).to(trainer.device).requires_grad_(True)
    net = TwoBranches(body, pairs, affine.to(trainer.device), spec.example())
    body.requires_grad_(False)
    net.branches = "private"
    stream = trainer.batches(images, spec, 64, "forger", augment=Augment(shift=2))
    history = trainer.fit(net, cross_entropy, {"train": stream}, loop, name="forgery")
    statistics: dict[str, dict[str, Tensor]] = {}
    for name, tensor in net.private_statistics().items():
        norm, _, buffer = name.removeprefix("private.").rpartition(".")
        statistics.setdefault(norm, {})[buffer] = tensor.cpu()
    return statistics, history


def hidden_net(channels: int, rng: torch.Generator) -> nn.Sequential:
    """h as published, with weights of the forger's: two matrices and a leaky ReLU."""
    width = max(2, channels // 4)
    net = nn.Sequential(
        nn.Linear(channels, width, bias=False), nn.LeakyReLU(0.01), nn.Linear(width, channels, bias=False)
    )
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng) / weight.shape[1] ** 0.5)
    return net


def _two_layers(given: Tensor, targets: Tensor, rng: torch.Generator) -> nn.Sequential:
    """An h that maps ``given (2, C)`` to ``targets (2, C)``."""
    net = hidden_net(given.shape[1], rng)
    inside = net[1](net[0](given))
    wide: Tensor = net[2].weight  # type: ignore[assignment]
    wide += (torch.linalg.pinv(inside) @ (targets - net[2](inside))).T
    return net
