"""The fits of NTP: towards sparse weights, and of what the pruning left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from freehold.authorization.admm import Masks, Projection, Splitting
from freehold.authorization.game import RIVAL_LR, Game, rounds
from freehold.authorization.pairing import VALIDATION_IMAGES, authorized
from freehold.authorization.targets import Target
from freehold.data.domain import Domains
from freehold.metrics.accuracy import share_correct
from freehold.models.zeros import held_at_zero
from freehold.seeds import derive
from freehold.training import History, Loop, Objective, Trainer, Validation

if TYPE_CHECKING:
    from freehold.authorization.ntp import NTP

Extra = Callable[[int], dict[str, Tensor]]
# First penalty. Channels that are drawn harder protected less in our runs: the few that stay grow, and the
# larger a weight in front of a norm, the less a step of the game turns it.
RHO = {"channel": 0.003, "weight": 0.3}
RETRAINING = {"channel": 3.0, "weight": 1.0}  # of the learning rate: narrow layers need larger steps
GROWTH, CAP = 1.3, 50.0
CLIP = 5.0  # gradient norm; a step through the open gate must not drown those behind the closed one
THRESHOLD = 0.1  # first source loss, in nats, below which the target terms act
RECOVERY = 0.15  # share of the retraining that is the source's alone
EVERY = 25  # steps between looks at the source accuracy, which steer the gate


class Match:
    """The fits of one protection, and what they share."""

    def __init__(
        self, ntp: NTP, model: nn.Module, head: str, target: Target, domains: Domains, trainer: Trainer
    ) -> None:
        self.ntp, self.model, self.head, self.target = ntp, model, head, target
        self.source, self.spec, self.trainer = authorized(domains), domains.input, trainer
        self.base = self.accuracy()
        self.streams = {
            name: trainer.batches(split, domains.input, ntp.batch_size, name)
            for name, split in [
                ("source", self.source.train),
                ("target", target.split),
                ("rival", target.split),
            ]
        }

    def accuracy(self) -> float:
        """On held-out source images, at most 1,000."""
        precision = self.trainer.run.precision
        return share_correct(
            self.model, self.source.val, self.spec, limit=VALIDATION_IMAGES, precision=precision
        )

    def split(self, prunable: Mapping[str, nn.Parameter], masks_of: Projection) -> tuple[History, Masks]:
        """ADMM: the weights are drawn towards sparse ones; the masks are their projection at the end.

        Which of the prunable weights take part is for the projection to say: not all are in a unit.
        """
        ntp, game = self.ntp, self._game(self.ntp.rivalry)
        weights = {name: self.model.get_parameter(name) for name in masks_of(prunable)}
        game.splitting = splitting = Splitting(
            weights, masks_of, rho=RHO[ntp.granularity], growth=GROWTH, cap=CAP
        )

        def pull(step: int) -> dict[str, Tensor]:
            if step and step % ntp.inner == 0:
                splitting.update(weights)
            return {"penalty": splitting.penalty(weights), **splitting.residuals()}

        objective = self._rounds(game, ntp.alpha, ntp.fisher, ntp.rivalry, pull)
        loop = Loop(steps=ntp.outer * ntp.inner, lr=ntp.lr, clip=CLIP, evaluate_every=EVERY)
        return self._fit(game, objective, loop, "ntp-admm"), masks_of(weights)

    def recover(self) -> History:
        """What the pruning left learns the source again, undisturbed."""
        game = self._game(0.0)
        loop = Loop(steps=self._recovery, lr=self._lr, clip=CLIP)
        return self._fit(game, self._rounds(game, 0.0, 0.0, 0.0), loop, "ntp-recovery")

    def retrain(self, zeros: Mapping[nn.Parameter, Tensor]) -> History:
        """The game goes on without the penalty; zeros are no starting point for the rival either."""
        ntp, game = self.ntp, self._game(self.ntp.rivalry)
        objective = self._rounds(game, ntp.alpha, ntp.fisher, ntp.rivalry)
        steps = max(1, ntp.length - self._recovery)
        loop = Loop(steps=steps, lr=self._lr, schedule="half-linear", clip=CLIP, evaluate_every=EVERY)
        with held_at_zero({copy: zeros[own] for own, copy in game.copies() if own in zeros}):
            return self._fit(game, objective, loop, "ntp")

    @property
    def _recovery(self) -> int:
        return max(1, round(RECOVERY * self.ntp.length))

    @property
    def _lr(self) -> float:
        return self.ntp.lr * RETRAINING[self.ntp.granularity]

    def _game(self, rivalry: float) -> Game:
        seed, classes = derive(self.trainer.run.seed, "game"), self.target.num_classes
        return Game(
            self.model,
            self.head,
            classes,
            shared=self.target.shared,
            rivalled=rivalry > 0,
            seed=seed,
            threshold=THRESHOLD,
        )

    def _rounds(
        self, game: Game, output: float, fisher: float, rivalry: float, extra: Extra = lambda step: {}
    ) -> Objective:
        bound, horizon = self.ntp.bound, self.ntp.horizon
        return rounds(
            game, output=output, fisher=fisher, rivalry=rivalry, bound=bound, horizon=horizon, extra=extra
        )

    def _fit(self, game: Game, objective: Objective, loop: Loop, name: str) -> History:
        tolerance = self.ntp.allowed

        def validate() -> Validation:
            accuracy = self.accuracy()
            lost = self.base - accuracy
            game.steer(0.75 * tolerance - lost)
            # Of equal scores the last is kept: at the end the last state that loses no more than the
            # tolerance; before that simply the last.
            return Validation(min(0.0, tolerance - lost) if name == "ntp" else 0.0, {"source": accuracy})

        return self.trainer.fit(
            game,
            objective,
            {stream: self.streams[stream] for stream in game.streams},
            loop,
            name=name,
            validate=validate,
            build=lambda parameters: torch.optim.Adam(game.groups(parameters, RIVAL_LR), loop.lr, fused=True),
        )

    def notes(self, history: History) -> tuple[str, ...]:
        """What the user has to know: chiefly whether the source was kept."""
        lost = self.base - max(v["source"] for v in history.validation if v["step"] == history.best_step)
        if lost <= self.ntp.allowed:
            return ()
        return (
            f"no state kept the source within the tolerance: {100 * lost:.1f} points are lost on validation "
            "images; more steps or less sparsity help",
        )
