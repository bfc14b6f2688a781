"""A suspect in an ONNX file, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from freehold.data.batches import normalise
from freehold.data.inputs import InputSpec
from freehold.errors import ArtifactError, MissingDependencyError, MissingInputError, ModelError, UsageError
from freehold.ownership.suspect import Suspect
from freehold.plugin import Access


class OnnxSuspect(Suspect):
    """An exported classifier: one float input ``(n, C, H, W)``, first output scores ``(n, K)``.

    A graph that fixes n is asked one batch of that size at a time, the last one filled up with blanks.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        MissingInputError: there is no such file.
        ArtifactError: it is no ONNX model that onnxruntime loads.
        ModelError: its signature is another one.
    """

    def __init__(self, path: Path, input: InputSpec, *, access: Access = Access.PROBABILITIES) -> None:
        if access == Access.WEIGHTS:
            raise UsageError("weights are not read from ONNX", where="access", fix="labels or probabilities")
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "onnxruntime is not installed", where=str(path), fix="pip install 'freehold[onnx]'"
            ) from error
        if not path.is_file():
            raise MissingInputError("there is no such file", where=str(path))
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ArtifactError(f"onnxruntime cannot load it: {error!s:.200}", where=str(path)) from error
        inputs, output = self._session.get_inputs(), self._session.get_outputs()[0]
        wanted = (input.channels, *input.size)
        takes = list(inputs[0].shape) if len(inputs) == 1 else []
        fits = len(takes) == 4 and all(
            not isinstance(d, int) or d == w for d, w in zip(takes[1:], wanted, strict=True)
        )
        if not fits or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"takes {found or 'nothing'}",
                where=str(path),
                fix=f"one float input (n, {wanted}) is expected",
            )
        self._input, self._output = inputs[0].name, output.name
        self._fixed = takes[0] if isinstance(takes[0], int) else None
        blank = self._run(torch.zeros(self._fixed or 2, *wanted))
        if blank.dim() != 2 or len(blank) != (self._fixed or 2) or blank.shape[1] < 2:
            raise ModelError(f"gives {tuple(blank.shape)} for {self._fixed or 2} images", where=str(path))
        super().__init__(path.name, input, blank.shape[1], access, batch=self._fixed or 256)

    def _run(self, images: Tensor) -> Tensor:
        try:
            return torch.from_numpy(self._session.run([self._output], {self._input: images.numpy()})[0])
        except Exception as error:
            raise ModelError(f"onnxruntime cannot run it: {error!s:.200}", where=self._input) from error

    def _answer(self, images: Tensor) -> Tensor:
        batch = normalise(images, self.input)
        missing = 0 if self._fixed is None else self._fixed - len(batch)
        scores = self._run(torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])]))[: len(batch)]
        # Exported with or without its softmax: what is a distribution stays one.
        sums = scores.sum(1)
        given = bool((scores >= 0).all()) and bool((sums - 1).abs().max() < 1e-3)
        return scores if given else scores.float().softmax(1)
