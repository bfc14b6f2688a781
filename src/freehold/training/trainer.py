"""Fits on one device or several; the only file that knows accelerate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from freehold.data.batches import Augment, Batches
from freehold.data.domain import InputSpec, Split
from freehold.errors import MissingDependencyError, UsageError
from freehold.seeds import derive
from freehold.training.history import History, Objective, Stream, Validation
from freehold.training.loop import Fit
from freehold.training.run import Run
from freehold.training.schedule import Loop

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where something is trained: whoever verifies needs none


class Trainer:
    """Runs fits on one device or several, under the settings of a :class:`Run`.

    Args:
        run: execution settings, seed and place of resumable state.
        identity: names the work done; resumable state of other work is refused.
    """

    def __init__(self, run: Run, identity: str = "") -> None:
        self.run, self.identity = run, identity
        if run.trackers and run.directory is None:
            raise UsageError("trackers write to a run directory, and there is none", where="trackers")
        self.accelerator = self._accelerator()
        self.device = self.accelerator.device
        self.threads: int | None = None
        if self.device.type == "cpu" and run.precision == "fp16":
            raise UsageError("fp16 needs a GPU", where="precision", fix="use bf16 or fp32")

    def _accelerator(self) -> Accelerator:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        run = self.run
        # accelerate keeps its settings in process-wide state and refuses a second precision; the
        # process group of a distributed launch has to survive.
        AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
        wanted = "" if run.device == "auto" else run.device
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError("torch sees no CUDA device", where="device", fix="use auto or cpu")
        if wanted == "mps" and not torch.backends.mps.is_available():
            raise UsageError("torch sees no Apple GPU", where="device", fix="use auto or cpu")
        if ":" in wanted:
            torch.cuda.set_device(wanted)
        try:
            accelerator = Accelerator(
                cpu=wanted == "cpu" or not torch.accelerator.is_available(),
                mixed_precision={"fp32": "no"}.get(run.precision, run.precision),
                dynamo_backend="inductor" if run.compile else "no",
                log_with=list(run.trackers) or None,
                project_dir=str(run.directory) if run.trackers else None,
            )
        except ValueError as error:  # an unknown tracker, a precision that the device lacks
            raise UsageError(str(error), where="train") from error
        found = {str(kind) for kind in accelerator.log_with}
        if missing := sorted(set(run.trackers) - found):  # accelerate drops these without a word
            raise MissingDependencyError(
                "is not installed", where=f"trackers: {missing[0]}", fix="pip install it"
            )
        return accelerator

    def batches(
        self, split: Split, spec: InputSpec, batch_size: int, name: str, *, augment: Augment | None = None
    ) -> Batches:
        """This process's share of an endless stream of global batches of ``batch_size`` images."""
        shard = (self.accelerator.process_index, self.accelerator.num_processes)
        seed = derive(self.run.seed, "batches", name)
        return Batches(split, spec, batch_size, seed=seed, device=self.device, augment=augment, shard=shard)

    def fit(
        self,
        model: nn.Module,
        objective: Objective,
        streams: Mapping[str, Stream],
        loop: Loop,
        *,
        name: str,
        mode: Literal["train", "eval"] = "train",
        validate: Callable[[], Validation] | None = None,
        build: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        finish: Callable[[], None] | None = None,
    ) -> History:
        """Minimise ``objective`` over the parameters of ``model`` that require a gradient, in place.

        Args:
            model: trained in place; ends on the device, in evaluation mode, with the best validated
                state if ``validate`` is given, else with the last.
            objective: the loss terms of a step.
            streams: one stream of batches a name that the objective asks for.
            loop: optimiser, schedule and stopping rule.
            name: of this fit; several fits of one run have different names.
            mode: ``"eval"`` keeps batch norm on its running statistics and dropout off.
            validate: scores the model in evaluation mode.
            build: makes the optimiser, in the place of the one that ``loop`` names.
            finish: called with the last state in the model, before the best one is put back.

        Raises:
            TrainingError: the loss became NaN or infinite; the model holds the last good state.
        """
        fit = Fit(self, model, objective, streams, loop, name, mode, validate, build, finish)
        try:
            return fit.run()
        finally:
            model.eval()
            self.accelerator.free_memory()

    def share(self, value: Any) -> Any:
        """``value`` of the first process, in all of them."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]
