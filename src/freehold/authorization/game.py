"""The owner and a simulated thief in one module, so that one fit trains both and resumes both.

The thief has three faces. A *reader* is a linear head on the owner's trunk as it is, trained all the time:
what it can read of the target is readable. Where the target has the source's classes, the owner's own head
reads it as well, untrained. A *rival* is a copy of the whole trunk that fine-tunes itself
and starts again from the owner's weights every few steps, with a new head or, every other time where the
classes are the same, with the owner's; the owner descends the gradient at the rival's place, as in
first-order meta-learning, so that fine-tuning from here leads nowhere good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from freehold.data.batches import Batch
from freehold.models.anatomy import Tap
from freehold.models.batch_statistics import batch_statistics
from freehold.seeds import global_draws
from freehold.training import Objective
from freehold.training.losses import fisher_ratio

READER_LR, RIVAL_LR = 5e-3, 1e-3
GATE = (0.8, 1.25, 0.02, 5.0)  # factor when too much is lost, when not, and the bounds of the threshold


class Game(nn.Module):
    """What one fit of NTP trains: the model, its reader, its rival, and the state of the gate.

    Args:
        model: the defender's, of any architecture with a linear head.
        head: dotted name of that head.
        num_targets: classes of the target.
        shared: whether these are the classes of ``head``.
        rivalled: whether there is a rival.
        seed: of the heads drawn here.
        threshold: first source loss below which the target terms act.
    """

    def __init__(
        self,
        model: nn.Module,
        head: str,
        num_targets: int,
        *,
        shared: bool,
        rivalled: bool,
        seed: int,
        threshold: float,
    ) -> None:
        super().__init__()
        self.model, self.head, self.seed, self.num_targets = model, head, seed, num_targets
        self.shared = shared
        self.seen = True  # whether the target itself goes through the owner's trunk
        self.names = [n for n, _ in model.named_parameters() if not n.startswith(f"{head}.")]
        last = self.classifier
        device = last.weight.device
        with global_draws(seed, "reader"):
            self.reader = nn.Linear(last.in_features, num_targets).to(device)
            self.rival_head = nn.Linear(last.in_features, num_targets).to(device) if rivalled else None
        own = dict(model.named_parameters())
        copies = [own[n].detach().clone() for n in self.names] if rivalled else []
        self.rival = nn.ParameterList(copies)
        self.register_buffer("threshold", torch.tensor(threshold, device=device))

    @property
    def classifier(self) -> nn.Linear:
        """The model's own head."""
        last = self.model.get_submodule(self.head)
        assert isinstance(last, nn.Linear)
        return last

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams whose batches a step looks at, in the order in which they are stacked."""
        return ("source", *(["target"] if self.seen else []), *(["rival"] if self.rival else []))

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(n, D)`` of source, target and rival images, which :func:`rounds` stacks in this order.

        Only the source touches the running statistics of norm layers.
        """
        parts = images.chunk(len(self.streams))
        features = [self._features(parts[0])]
        with batch_statistics(self.model):
            if self.seen:
                features.append(self._features(parts[1]))
            if self.rival:
                own = dict(self.model.named_parameters())
                rival = dict(zip(self.names, self.rival, strict=True))
                # The value is the rival's, the gradient goes to the owner: straight through.
                moved = {n: own[n] + (r - own[n]).detach() for n, r in rival.items()}
                learn, escape = parts[-1].chunk(2)
                features += [self._features(learn, rival), self._features(escape, moved)]
        return torch.cat(features)

    def _features(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        with Tap(self.model, self.head, "input") as tap:
            if weights is None:
                self.model(images)
            else:
                functional_call(self.model, dict(weights), (images,))
            return tap.value

    @torch.no_grad()
    def restart(self, step: int, *, keep_head: bool) -> None:
        """Put the rival back on the owner's weights, with the owner's head or a new one."""
        if self.rival_head is None:
            return
        own = dict(self.model.named_parameters())
        for name, copy in zip(self.names, self.rival, strict=True):
            copy.copy_(own[name])
        head = self.classifier
        if not keep_head:
            with global_draws(self.seed, "rival", step):
                head = nn.Linear(self.rival_head.in_features, self.num_targets)
        self.rival_head.weight.copy_(head.weight)
        self.rival_head.bias.copy_(0 if head.bias is None else head.bias)

    @torch.no_grad()
    def steer(self, spare: float) -> None:
        """Widen the gate when source accuracy is to spare, narrow it when it is not."""
        down, up, low, high = GATE
        self.get_buffer("threshold").mul_(up if spare >= 0 else down).clamp_(low, high)

    def copies(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The owner's weights, each with the rival's copy."""
        own = dict(self.model.named_parameters())
        return [(own[name], copy) for name, copy in zip(self.names, self.rival, strict=False)]

    def groups(self, parameters: list[nn.Parameter], rival_lr: float) -> list[dict[str, Any]]:
        """Optimiser groups: the thief's learning rates stay as they are while the owner's falls."""
        reader = {id(p) for p in self.reader.parameters()}
        rival = {id(p) for p in [*self.rival, *(self.rival_head.parameters() if self.rival_head else ())]}
        kinds: dict[str, list[nn.Parameter]] = {"owner": [], "reader": [], "rival": []}
        for p in parameters:
            kinds["reader" if id(p) in reader else "rival" if id(p) in rival else "owner"].append(p)
        groups: list[dict[str, Any]] = [{"params": kinds["owner"]}]
        groups += [{"params": kinds["reader"], "lr": READER_LR, "constant": True, "weight_decay": 0.0}]
        groups += [{"params": kinds["rival"], "lr": rival_lr, "constant": True, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


def rounds(
    game: Game,
    *,
    output: float,
    fisher: float,
    rivalry: float,
    bound: float,
    horizon: int,
    extra: Callable[[int], dict[str, Tensor]],
) -> Objective:
    """The objective of a fit of ``game``.

    ``loss = CE_source + gate * (fisher R - output min(CE_reader, bound) - rivalry min(CE_rival, bound))``,
    with another term like the reader's for the owner's head where that knows the target's classes,
    plus what reader and rival minimise for themselves, which no owner's weight feels. The gate is 1 where
    the batch's source loss is below the threshold, else 0.

    Args:
        game: what is fitted.
        output: alpha.
        fisher: lambda.
        rivalry: sigma.
        bound: B, in nats: a loss beyond it has no gradient.
        horizon: steps after which the rival starts again.
        extra: further terms of a step; one called ``"penalty"`` is added to the loss.
    """
    game.seen = bool(output or fisher)

    def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
        if step % horizon == 0:
            game.restart(step, keep_head=game.shared and step // horizon % 2 == 1)
        added = extra(step)
        source = batches["source"]
        features = forward(torch.cat([batches[name].images for name in game.streams])).float()
        size = len(source)
        loss = F.cross_entropy(game.classifier(features[:size]), source.labels)
        gate = (loss.detach() < game.get_buffer("threshold")).float()
        terms = {"source loss": loss}
        if game.seen:
            labels, seen = batches["target"].labels, features[size : 2 * size]
            if game.shared:
                own = F.cross_entropy(_frozen(game.classifier, seen), labels).clamp_max(bound)
                loss = loss - gate * output * own
                terms |= {"own head's loss": own}
            # Scale is no protection: the reader sees features of mean length sqrt(D).
            seen = seen / seen.norm(dim=1).mean().detach().clamp_min(1e-6) * seen.shape[1] ** 0.5
            reading = F.cross_entropy(game.reader(seen.detach()), labels)
            readable = F.cross_entropy(_frozen(game.reader, seen), labels).clamp_max(bound)
            separable = fisher_ratio(seen, labels, game.num_targets)
            loss = loss + gate * (fisher * separable - output * readable) + reading
            terms |= {"target loss": reading, "Fisher ratio": separable}
        if game.rival_head is not None:
            learn, escape = features[-size:].tensor_split([(size + 1) // 2])
            first, second = batches["rival"].labels.tensor_split([(size + 1) // 2])
            learning = F.cross_entropy(game.rival_head(learn), first)
            escaped = F.cross_entropy(_frozen(game.rival_head, escape), second).clamp_max(bound)
            loss = loss - gate * rivalry * escaped + learning
            terms |= {"rival loss": escaped}
        if len(game.streams) > 1:
            terms |= {"gate open": gate, "gate": game.get_buffer("threshold")}
        return {"loss": loss + added.get("penalty", 0.0), **terms, **added}

    return objective


def _frozen(head: nn.Linear, features: Tensor) -> Tensor:
    """Logits through the head as a constant."""
    return F.linear(features, head.weight.detach(), None if head.bias is None else head.bias.detach())
