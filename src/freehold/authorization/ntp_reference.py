"""NTP as its published code runs it, step by step, for comparison; the method proper is in ntp.py.

Where it differs: the penalty is the distance itself, not its square; Z comes from a soft threshold of
``KAPPA / RHO``; the mask only ever shrinks; every parameter of the trunk is pruned, norm layers and
biases too; both heads are frozen, the target's after one fit on the untouched trunk; each outer round
starts a new Adam; nothing is retrained. How sparse the result is, the threshold decides: the sparsity
asked for only ends the rounds early.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freehold.authorization.admm import soft_threshold
from freehold.authorization.pairing import authorized
from freehold.authorization.targets import Target
from freehold.data.batches import Batch
from freehold.data.domain import Domains
from freehold.models.anatomy import Tap
from freehold.models.layers import apply_mask
from freehold.models.zeros import held_at_zero
from freehold.protection import Outcome
from freehold.seeds import global_draws
from freehold.training import History, Loop, Trainer
from freehold.training.losses import fisher_ratio

if TYPE_CHECKING:
    from freehold.authorization.ntp import NTP

RHO, KAPPA = 0.005, 1e-4
DECAY = 8e-4  # weight decay of every Adam
HEAD_EPOCHS = 10
LEAST_ROUNDS, STALLED = 10, 1e-4  # rounds before it may stop, and the change of the loss that stops it


class Pair(nn.Module):
    """A trunk with its own head and the target's; the features of one pass serve both."""

    def __init__(self, model: nn.Module, head: str, num_targets: int, seed: int) -> None:
        super().__init__()
        self.model, self.head = model, head
        own = self.model.get_submodule(head)
        assert isinstance(own, nn.Linear)
        with global_draws(seed, "target head"):
            self.target = nn.Linear(own.in_features, num_targets).to(own.weight.device)
        if num_targets == own.out_features:
            self.target.load_state_dict(own.state_dict(), strict=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features ``(B, D)``."""
        with Tap(self.model, self.head, "input") as tap:
            self.model(images)
            return tap.value


def reference(
    ntp: NTP, model: nn.Module, head: str, target: Target, domains: Domains, trainer: Trainer
) -> Outcome:
    """The rounds of the published code, of ``ntp.inner`` steps each, at most ``ntp.outer``."""
    pair = Pair(model, head, target.num_classes, trainer.run.seed)
    source, spec, size = authorized(domains), domains.input, ntp.batch_size
    streams = {
        name: trainer.batches(split, spec, size, name)
        for name, split in {"source": source.train, "target": target.split}.items()
    }
    own_head = model.get_submodule(head)
    trunk = {n: p for n, p in model.named_parameters() if not n.startswith(f"{head}.")}
    model.requires_grad_(False)

    def head_loss(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        batch = batches["target"]
        return {"loss": F.cross_entropy(pair.target(forward(batch.images).float()), batch.labels)}

    epochs = HEAD_EPOCHS * streams["target"].batches_per_epoch
    loop = Loop(steps=min(epochs, ntp.length), lr=ntp.lr, weight_decay=DECAY)
    fitted = trainer.fit(
        pair, head_loss, {"target": streams["target"]}, loop, name="ntp-target-head", mode="eval"
    )
    pair.target.requires_grad_(False)
    for parameter in trunk.values():
        parameter.requires_grad_(True)

    z = {n: p.detach().clone() for n, p in trunk.items()}
    u = {n: torch.zeros_like(p) for n, p in trunk.items()}
    masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in trunk.items()}
    total = sum(p.numel() for p in trunk.values())
    history, last = History(), float("inf")

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        here, there = batches["source"], batches["target"]
        kept = F.cross_entropy(own_head(forward(here.images).float()), here.labels)
        features = forward(there.images).float()
        lost = F.cross_entropy(pair.target(features), there.labels).clamp_max(ntp.bound)
        separable = fisher_ratio(features, there.labels, target.num_classes, eps=1e-12)
        distance = torch.stack([(p - z[n] + u[n]).norm() for n, p in trunk.items()]).sum()
        loss = kept - ntp.alpha * lost + ntp.fisher * separable + RHO / 2 * distance
        return {
            "loss": loss, "source loss": kept, "target loss": lost,
            "Fisher ratio": separable, "penalty": RHO / 2 * distance,
        }  # fmt: skip

    for number in range(ntp.outer):
        with held_at_zero({p: masks[n] for n, p in trunk.items()}):
            loop = Loop(steps=ntp.inner, lr=ntp.lr, weight_decay=DECAY)
            done = trainer.fit(pair, objective, streams, loop, name=f"ntp-reference-{number}")
        primal, size_now = [], []
        with torch.no_grad():
            for name, p in trunk.items():
                z[name] = soft_threshold((p + u[name]) * masks[name], KAPPA / RHO)
                u[name] += p - z[name]
                masks[name] &= z[name] != 0
                primal.append((p - z[name]).square().sum())
                size_now.append(p.square().sum())
        _extend(history, done)
        residual = (torch.stack(primal).sum() / torch.stack(size_now).sum()).sqrt()
        history.terms.setdefault("primal residual", []).extend([float(residual)] * len(done.steps))
        zeros = 1 - sum(int(m.sum()) for m in masks.values()) / total
        now = done.terms["loss"][-1]
        if number >= LEAST_ROUNDS and (abs(now - last) < STALLED or zeros > ntp.share):
            break
        last = now
    with torch.no_grad():
        for name, p in trunk.items():
            p.copy_(apply_mask(p, masks[name]))
    note = f"the threshold made {zeros:.1%} of the trunk's parameters zero; {ntp.share:.1%} were asked for"
    weights = {n: m for n, m in masks.items() if trunk[n].dim() > 1}
    return Outcome(model, {"ntp-target-head": fitted, "ntp": history}, weights, retrained=True, notes=(note,))


def _extend(history: History, done: History) -> None:
    """Append one round to the curves of the rounds before it."""
    start = history.steps[-1] if history.steps else 0
    history.steps += [start + step for step in done.steps]
    for name, values in done.terms.items():
        history.terms.setdefault(name, []).extend(values)
    history.images += done.images
    history.seconds += done.seconds
    history.threads = done.threads
