"""A dry run that watches every layer and may cut one of them, for finding which channels go where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from freehold.models.anatomy import dry_run

BatchNorm = nn.modules.batchnorm._BatchNorm


class Probe:
    """One dry run that may cut a module's output, and what was seen.

    Attributes:
        blank: layers whose whole input was zero; they are made to answer ones, so that zeros end here.
        norms: layer to the batch norm whose input was its output.
        calls: how often each layer ran.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        noise: Tensor,
        *,
        cut: str = "",
        mask: Tensor | None = None,
        answers: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.blank: list[str] = []
        self.norms: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name, module in model.named_modules():
                if name in layers:
                    handle = module.register_forward_hook(self._layer(name, answers or {}))
                    hooks.callback(handle.remove)
                elif isinstance(module, BatchNorm):
                    hooks.callback(module.register_forward_hook(self._norm(name)).remove)
                if name == cut and mask is not None:
                    hooks.callback(module.register_forward_hook(_cutting(mask, module)).remove)
            self.logits = dry_run(model, noise)

    def _layer(self, name: str, answers: Mapping[str, Tensor]) -> Callable[..., Tensor | None]:
        def look(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            self.calls[name] = self.calls.get(name, 0) + 1
            self.inputs[name], self.outputs[name] = args[0].clone(), output
            if name in answers:
                return answers[name]
            if not args[0].any():
                self.blank.append(name)
                return torch.ones_like(output)
            return None

        return look

    def _norm(self, name: str) -> Callable[..., Tensor]:
        def look(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            for layer, made in self.outputs.items():
                if made is args[0]:
                    self.norms[layer] = name
            return output + 1  # a norm that starts at scale 0 would look like a unit that was cut

        return look


def _cutting(mask: Tensor, module: nn.Module) -> Callable[..., Tensor]:
    """Multiplies a layer's or norm's output by ``mask``, one value a channel or one for all."""
    last = isinstance(module, nn.Linear)

    def cut(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        shape = (-1,) if last or mask.dim() == 0 else (-1, *[1] * (output.dim() - 2))
        return output * mask.view(shape).to(output.device)

    return cut


def out_channels(module: nn.Module) -> int | None:
    """Of a linear layer or a dense convolution; None of anything else."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups == 1 and not module.transposed:
        return module.out_channels
    return None


def in_channels(module: nn.Module) -> int:
    """Of a linear layer or a convolution."""
    return module.in_features if isinstance(module, nn.Linear) else int(module.in_channels)  # type: ignore[arg-type]
