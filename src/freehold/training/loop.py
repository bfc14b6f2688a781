"""The one training loop: steps, validation, resumption, and stopping at the first bad loss."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from freehold.errors import TrainingError
from freehold.models.checkpoint import state_hash
from freehold.seeds import global_draws
from freehold.training.history import History, Objective, Stream, Validation
from freehold.training.progress import progress
from freehold.training.schedule import Loop
from freehold.training.state import Guard, StateFile, copy_state, restore_state, trained_state
from freehold.training.threads import choose_threads

if TYPE_CHECKING:
    from freehold.training.trainer import Trainer

POINTS = 100  # how many points a training curve has


class _Shell(nn.Module):
    """What accelerate wraps and patches, so that the model itself stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)``."""
        logits: Tensor = self.model(images)
        return logits


class Fit:
    """One call of :meth:`Trainer.fit`, step by step."""

    def __init__(
        self,
        trainer: Trainer,
        model: nn.Module,
        objective: Objective,
        streams: Mapping[str, Stream],
        loop: Loop,
        name: str,
        mode: Literal["train", "eval"],
        validate: Callable[[], Validation] | None,
        build: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        finish: Callable[[], None] | None = None,
    ) -> None:
        run = trainer.run
        self.trainer, self.model, self.objective, self.streams = trainer, model, objective, streams
        self.loop, self.name, self.mode, self.validate, self.finish = loop, name, mode, validate, finish
        self.accelerator = trainer.accelerator
        start = [trainer.identity, name, loop.model_dump(), run.seed, run.precision, state_hash(model)]
        key = hashlib.sha256(json.dumps([*start, self.accelerator.num_processes]).encode()).hexdigest()
        model.to(trainer.device)
        if run.channels_last:
            model.to(memory_format=torch.channels_last)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.forward, self.optimizer = self.accelerator.prepare(
            _Shell(model), (build or loop.build)(self.parameters)
        )
        self.state = trained_state(model)
        self.guard = Guard(self.state)
        self.file = StateFile(run.directory and run.directory / f"{name}.state", key)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.stale = 0
        self.step = 0
        self.reseed: Callable[[int], None] = lambda step: None

    def run(self) -> History:
        """All steps, from the start or from where an earlier run stopped."""
        self._resume()
        self.set_mode()
        if self.history.threads == 0 and self.step < self.loop.steps:
            self.history.threads = self._pick_threads()
        trackers = self.trainer.run.trackers
        if trackers:
            self.accelerator.init_trackers(self.name, config=self.loop.model_dump())
        visible = self.trainer.run.progress and self.accelerator.is_main_process
        rank = self.accelerator.process_index
        with (
            progress(self.name, self.loop.steps, start=self.step, visible=visible) as report,
            global_draws(self.trainer.run.seed, "draws", self.name, rank) as self.reseed,
        ):
            self._steps(report)
        if self.finish is not None:
            self.finish()
        if self.best is not None:
            restore_state(self.state, self.best)
        if trackers:
            self.accelerator.end_training()
        return self.history

    def _steps(self, report: Callable[[int, Mapping[str, float]], None]) -> None:
        loop, history = self.loop, self.history
        window = max(1, loop.steps // POINTS)
        sums: dict[str, Tensor] = {}
        summed = 0
        began = saved = time.monotonic()
        try:
            while self.step < loop.steps and not history.stopped_early:
                terms = self.advance()
                for key, value in terms.items():
                    sums[key] = sums[key] + value.detach() if key in sums else value.detach().clone()
                summed += 1
                last = self.step == loop.steps
                if not (last or self.step % window == 0 or self._validates()):
                    continue
                self.guard.check()
                figures = {key: float(value) / summed for key, value in sums.items()}
                sums, summed = {}, 0
                history.steps.append(self.step)
                for key, figure in figures.items():
                    history.terms.setdefault(key, []).append(figure)
                if self.validate and (last or self._validates()):
                    figures |= self._validate(self.validate)
                report(self.step, figures)
                if self.trainer.run.trackers:
                    self.accelerator.log(figures, step=self.step)
                now = time.monotonic()
                if last or history.stopped_early or now - saved >= self.trainer.run.checkpoint_seconds:
                    history.seconds, began, saved = history.seconds + now - began, now, now
                    self._save()
        except TrainingError as error:
            raise self._kept(error) from None

    def advance(self) -> Mapping[str, Tensor]:
        """One step: forward, backward, update; returns the loss terms, still on the device."""
        self.guard.remember(self.step)
        self.reseed(self.step)
        batches = {name: stream.batch(self.step) for name, stream in self.streams.items()}
        terms = self.objective(self.forward, batches, self.step)
        self.accelerator.backward(terms["loss"])
        if self.loop.clip is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.loop.clip)
        self.guard.check()
        for group in self.optimizer.param_groups:
            if not group.get("constant"):  # a group may keep the learning rate that it was built with
                group["lr"] = self.loop.lr * self.loop.factor(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.guard.watch(self.step, terms["loss"])
        self.history.images += sum(len(batch) for batch in batches.values())
        self.step += 1
        return terms

    def _validates(self) -> bool:
        return bool(self.validate and self.loop.evaluate_every and self.step % self.loop.evaluate_every == 0)

    def _validate(self, validate: Callable[[], Validation]) -> dict[str, float]:
        """Score the model; all processes act on what the first one measured."""
        measured = None
        if self.accelerator.is_main_process:
            self.model.eval()
            measured = tuple(validate())
            self.set_mode()
        score, figures = self.trainer.share(measured)
        self.history.validation.append({"step": self.step, "score": score, **figures})
        self.stale = 0 if score > self.best_score else self.stale + 1
        if score >= self.best_score:  # of equals the last: its learning rate was the smallest
            self.best, self.best_score, self.history.best_step = copy_state(self.state), score, self.step
        self.history.stopped_early = self.loop.patience is not None and self.stale >= self.loop.patience
        return dict(figures)

    def set_mode(self) -> None:
        """Training or evaluation mode, as this fit asks for."""
        self.forward.train(self.mode == "train")

    def _pick_threads(self) -> int:
        """Time a few real steps once a trainer; state and gradients are put back."""
        run, trainer = self.trainer.run, self.trainer
        if trainer.device.type != "cpu":
            return torch.get_num_threads()
        if run.threads != "auto":
            torch.set_num_threads(run.threads)
        elif (
            trainer.threads is None
            and self.accelerator.num_processes == 1
            and "OMP_NUM_THREADS" not in os.environ
        ):
            saved = copy_state(self.state)
            batches = {name: stream.batch(0) for name, stream in self.streams.items()}

            def step(images: int) -> None:
                part = {name: batch.first(images) for name, batch in batches.items()}
                self.accelerator.backward(self.objective(self.forward, part, 0)["loss"])

            choose_threads(step, max(len(batch) for batch in batches.values()))
            self.optimizer.zero_grad()
            restore_state(self.state, saved)
        trainer.threads = torch.get_num_threads()
        return trainer.threads

    def _kept(self, error: TrainingError) -> TrainingError:
        """Put the last good state, which the guard restored, beside the run's other files."""
        directory = self.trainer.run.directory
        if directory is None or not self.accelerator.is_main_process:
            return error
        path = directory / f"{self.name}.last-good.safetensors"
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.state.items()}, path)
        return TrainingError(f"{error.what}, in {path}", where=error.where, fix=error.fix)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.file.save(
            {
                "step": self.step,
                "model": self.state,
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else None,
                "best": self.best,
                "best_score": self.best_score,
                "stale": self.stale,
                "history": json.dumps(self.history.to_json()),
            }
        )

    def _resume(self) -> None:
        saved = self.file.load()
        if saved is None:
            return
        self.step, self.best_score, self.stale = saved["step"], saved["best_score"], saved["stale"]
        restore_state(self.state, saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.accelerator.scaler and saved["scaler"]:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        device = self.trainer.device
        self.best = saved["best"] and {key: tensor.to(device) for key, tensor in saved["best"].items()}
        self.history = History(**json.loads(saved["history"]))
        if device.type == "cpu":  # other counts round differently
            torch.set_num_threads(self.history.threads)
            self.trainer.threads = self.history.threads
