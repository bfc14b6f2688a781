"""A network with a second, private branch in its norm layers: what passports add while it is trained.

Passport-aware normalization (Zhang et al., NeurIPS 2020) gives a norm layer two scales and shifts: the public
ones, which are its own, and private ones. Nothing of that is built into the network: a private pass runs
the same modules on other numbers, and what both passes share is computed once.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from freehold.models.anatomy import dry_run, evaluating
from freehold.models.norm_pairs import NORMS, NormPair
from freehold.models.probe import BatchNorm


class TwoBranches(nn.Module):
    """A network and its private branch, trained together; ``model`` itself stays a plain network.

    ``forward`` gives the logits of the public branch, then those of the private one: ``(2B, K)``.

    Args:
        model: the network.
        pairs: where the private branch has scales and shifts of its own, in order of call.
        affine: called with the model, gives these, differentiable; trained along.
        example: ``(B, C, H, W)``, for looking at the model in dry runs.
        own_statistics: whether batch norms of the private branch keep their own running statistics: all
            from the first pair on, since what goes into them differs.
    """

    def __init__(
        self,
        model: nn.Module,
        pairs: Sequence[NormPair],
        affine: nn.Module,
        example: Tensor,
        *,
        own_statistics: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.pairs, self.affine = model, tuple(pairs), affine
        self.branches = "both"  # or "public" or "private": logits (B, K) of that branch alone
        shared, after = _order(model, pairs[0].norm, example)
        self._tracked = [n for n in after if own_statistics and _tracks(model.get_submodule(n))]
        self.statistics = nn.ModuleList(_Statistics(model.get_submodule(name)) for name in self._tracked)
        self._shared: list[str] = []
        self._copies = False
        _share(self, shared, example)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(2B, K)``, or ``(B, K)`` where ``branches`` names one."""
        if self.branches == "public":
            public: Tensor = self.model(images)
            return public
        if self.branches == "private":
            return self._private(images)
        prefix, split = self._prefix(), self.model.get_submodule(self.pairs[0].norm)
        made: deque[Any] = deque()
        with _remembering(prefix, split, made, copies=self._copies):
            public = self.model(images)
        with self._on_private_numbers(), _remembering(prefix, split, made, replay=True, copies=self._copies):
            private: Tensor = self.model(images)
        return torch.cat([public, private])

    @torch.no_grad()
    def private(self) -> nn.Module:
        """The private branch as a plain network of its own, which costs what the public one does."""
        return with_numbers(self.model, self._numbers())

    def private_statistics(self) -> dict[str, Tensor]:
        """Running statistics of the private branch, as ``private.NORM.NAME``."""
        return {
            f"private.{norm}.{name}": tensor
            for norm, own in zip(self._tracked, self.statistics, strict=True)
            for name, tensor in own.named_buffers()
        }

    def _private(self, images: Tensor) -> Tensor:
        with self._on_private_numbers():
            logits: Tensor = self.model(images)
        return logits

    def _prefix(self) -> list[nn.Module]:
        return [self.model.get_submodule(name) for name in self._shared]

    def _numbers(self) -> dict[str, dict[str, Tensor]]:
        """What each norm of the private branch runs on in the place of its own tensors."""
        numbers: dict[str, dict[str, Tensor]] = {name: {} for name in self._tracked}
        for name, own in zip(self._tracked, self.statistics, strict=True):
            numbers[name] |= {key: tensor for key, tensor in own._buffers.items() if tensor is not None}
        for pair, (scale, shift) in zip(self.pairs, self.affine(self.model), strict=True):
            numbers.setdefault(pair.norm, {}).update(weight=scale, bias=shift)
        return numbers

    def _on_private_numbers(self) -> AbstractContextManager[None]:
        return _exchanged({self.model.get_submodule(name): own for name, own in self._numbers().items()})


@contextmanager
def _exchanged(numbers: Mapping[nn.Module, Mapping[str, Tensor]]) -> Iterator[None]:
    """For a block, modules hold other tensors in the place of their own; buffers are updated in place."""
    with ExitStack() as undo:
        for module, own in numbers.items():
            for name, tensor in own.items():
                held: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
                undo.callback(held.__setitem__, name, held[name])
                held[name] = tensor
        yield


@torch.no_grad()
def with_numbers(model: nn.Module, numbers: Mapping[str, Mapping[str, Tensor]]) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose norms hold other numbers, by norm and tensor name."""
    other = copy.deepcopy(model).eval()
    for norm, own in numbers.items():
        held = other.get_submodule(norm)
        for name, tensor in own.items():
            getattr(held, name).copy_(tensor)
    return other


class _Statistics(nn.Module):
    """Running statistics of a batch norm's private branch."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        for name, tensor in norm.named_buffers(recurse=False):
            self.register_buffer(name, tensor.detach().clone())


def _tracks(norm: nn.Module) -> bool:
    return isinstance(norm, BatchNorm) and norm.running_mean is not None


@contextmanager
def _patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """For a block, each module's forward is ``forwards[module](usual forward, ...)``."""
    with ExitStack() as undo:
        for module, forward in forwards.items():
            undo.callback(_restore, module, module.__dict__.get("forward"))
            module.forward = partial(forward, module.forward)
        yield


def _restore(module: nn.Module, earlier: Any) -> None:
    if earlier is None:
        module.__dict__.pop("forward", None)  # the class's own shows again
    else:
        module.forward = earlier


def _remembering(
    prefix: Sequence[nn.Module],
    split: nn.Module,
    made: deque[Any],
    *,
    replay: bool = False,
    copies: bool = False,
) -> AbstractContextManager[None]:
    """Until ``split`` runs, modules of the prefix put their results into ``made``, or take them from it.

    With ``copies`` what is kept is never handed out itself, so that functions may change it in place.
    """
    inside, reached = 0, False

    def through(usual: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside or reached or (replay and not made):
            return usual(*args, **kwargs)
        if replay:
            kept = made.popleft()
            return kept.clone() if copies else kept
        inside += 1
        try:
            result = usual(*args, **kwargs)
        finally:
            inside -= 1
        if not reached:
            made.append(result)
        return result.clone() if copies else result

    def at_split(usual: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal reached
        reached = True
        return usual(*args, **kwargs)

    return _patched({**dict.fromkeys(prefix, through), split: at_split})


def _order(model: nn.Module, first: str, example: Tensor) -> tuple[list[str], list[str]]:
    """Modules that finish before ``first`` runs, outermost only; and the norms from ``first`` on."""
    running: list[str] = []
    finished: list[tuple[str, tuple[str, ...]]] = []  # each with those that it ran inside of
    after: list[str] = []

    def enters(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, NORMS) and (after or name == first) and name not in after:
            after.append(name)
        running.append(name)

    def leaves(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        running.pop()
        if not after:
            finished.append((name, tuple(running)))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hooks.callback(module.register_forward_pre_hook(partial(enters, name)).remove)
                hooks.callback(module.register_forward_hook(partial(leaves, name)).remove)
        dry_run(model, example)
    done = {name for name, _ in finished}
    return list(dict.fromkeys(name for name, outer in finished if done.isdisjoint(outer))), after


def _share(branches: TwoBranches, prefix: list[str], example: Tensor) -> None:
    """Let results of the prefix be used twice; as copies, or not at all, if that would change something.

    Functions that work in place may spoil a result: a dry run of both passes and a gradient show it.
    """
    weight = next(p for p in branches.model.parameters() if p.is_floating_point())
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(example.shape, generator=rng).to(weight.device, weight.dtype)
    wanted = [p for p in branches.model.parameters() if p.requires_grad]
    branches._shared = prefix
    with evaluating(branches.model), torch.enable_grad():
        alone = branches._private(noise)
        for branches._copies in (False, True):
            together = branches(noise)
            same = torch.allclose(together[len(noise) :], alone, rtol=1e-3, atol=1e-5)
            with suppress(RuntimeError):  # autograd's, about values that were changed in place
                torch.autograd.grad(together.sum(), wanted, allow_unused=True)
                if same:
                    return
    branches._shared = []
