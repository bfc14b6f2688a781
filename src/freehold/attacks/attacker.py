"""How an attacker prepares a released model before fine-tuning it on another domain."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from freehold.data.domain import InputSpec
from freehold.models.anatomy import find_head, maskable_weights, norm_layers, resize_head
from freehold.models.fusion import Fused
from freehold.models.zeros import mask_gradient
from freehold.seeds import global_draws
from freehold.settings import Settings

Start = Callable[[int], nn.Module]


class Attacker(Settings):
    """What somebody who has the weights does to them before fine-tuning all of them."""

    zeros: Literal["kept", "regrow", "reinit"] = Field(
        "regrow",
        description="weights that are zero: held at zero, free to grow, or drawn anew and free to grow",
    )
    norms: Literal["kept", "reset"] = Field(
        "kept", description="norm layers as released, or as new: scale 1, shift 0, statistics forgotten"
    )
    scale: Literal["kept", "live"] = Field(
        "kept", description="as released, or each layer's live weights brought to the scale of new ones"
    )
    head: Literal["fresh", "kept"] = Field("fresh", description="the classifier: drawn anew, or as released")

    def prepare(self, model: nn.Module, spec: InputSpec, num_classes: int, seed: int) -> nn.Module:
        """A copy of ``model``, ready to be trained; ``seed`` decides whatever is drawn.

        A head for another number of classes is always drawn anew.

        Raises:
            ModelError: the model does not end in a linear layer.
        """
        model = copy.deepcopy(model).requires_grad_(True)
        head = find_head(model, spec.example())
        with global_draws(seed, "attacker"), torch.no_grad():
            for name, weight in maskable_weights(model, (head,)).items():
                _treat(model, name, weight, self)
            for norm in norm_layers(model).values():
                _renew(norm, affine=self.norms == "reset", scale=self.scale == "live")
        # Drawn apart, so that all attackers of one seed start from the same head.
        with global_draws(seed, "attacker", "head"), torch.no_grad():
            last = model.get_submodule(head)
            if self.head == "fresh" and isinstance(last, nn.Linear):
                last.reset_parameters()
            resize_head(model, head, num_classes)
        return model


# The attackers that every learning curve is measured with; the worst for the defender is named first.
ATTACKERS: dict[str, Attacker] = {
    "zeros kept": Attacker(zeros="kept"),
    "regrow": Attacker(),
    "regrow, old head": Attacker(head="kept"),
    "re-initialised zeros": Attacker(zeros="reinit"),
    "norms reset": Attacker(zeros="reinit", norms="reset"),
    "rescaled": Attacker(scale="live"),
}


def released(model: nn.Module, attacker: Attacker, spec: InputSpec, num_classes: int) -> Start:
    """Starts of ``attacker`` from ``model``: a function of the seed."""
    return partial(attacker.prepare, model, spec, num_classes)


def scratch(build: Callable[[int], nn.Module], spec: InputSpec, num_classes: int) -> Start:
    """Starts without any released model.

    Args:
        build: makes the untrained architecture from a seed.
        spec: its input.
        num_classes: of the attacker's domain.
    """
    return lambda seed: Attacker().prepare(build(seed), spec, num_classes, seed)


def untrained(model: nn.Module) -> Callable[[int], nn.Module]:
    """Copies of ``model`` whose layers were drawn anew, for architectures that no URI names.

    Every module that has ``reset_parameters`` is reset by it; parameters that no such module owns
    (tokens, position embeddings) are drawn from a normal distribution of standard deviation 0.02. Of a
    fused model it is the target: a branch that is untrained would shut the gate of what learns.
    """
    kind = model.target if isinstance(model, Fused) else model

    def build(seed: int) -> nn.Module:
        fresh, done = copy.deepcopy(kind), set()
        with global_draws(seed, "untrained"), torch.no_grad():
            for module in fresh.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
                    done |= {id(p) for p in module.parameters()}
            for parameter in fresh.parameters():
                if id(parameter) not in done:
                    parameter.normal_(0, 0.02)
        return fresh

    return build


def _treat(model: nn.Module, name: str, weight: nn.Parameter, attacker: Attacker) -> None:
    live = weight != 0
    fan_in = weight[0].numel()
    if attacker.scale == "live" and live.any():
        mean_square = weight.square().sum() / live.sum()
        live_fan_in = live.sum() / weight.shape[0]
        weight.mul_((2 / live_fan_in / mean_square).sqrt())
    if attacker.zeros == "reinit":
        weight.copy_(torch.where(live, weight, torch.randn_like(weight) * math.sqrt(2 / fan_in)))
    elif attacker.zeros == "kept":
        # A weight at zero whose gradient is zero stays there, whatever momentum and decay do.
        mask_gradient(weight, live)


def _renew(norm: nn.Module, *, affine: bool, scale: bool) -> None:
    if affine and callable(reset := getattr(norm, "reset_parameters", None)):
        reset()
        return
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if scale and isinstance(weight, Tensor) and weight.any():
        size = weight[weight != 0].abs().mean()
        weight.div_(size)
        if isinstance(bias, Tensor):
            bias.div_(size)
    if scale and callable(forget := getattr(norm, "reset_running_stats", None)):
        forget()
