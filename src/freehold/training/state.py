"""Resumable training state on disk, and the guard that keeps the last good state in memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freehold.errors import ArtifactError, OutputError, TrainingError


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: trainable parameters and all buffers, by name, not copied."""
    trainable = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    return trainable | dict(model.named_buffers())


def copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An independent copy of ``state``."""
    return {name: tensor.clone() for name, tensor in state.items()}


def restore_state(state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Write ``saved`` into ``state`` in place."""
    for name, tensor in state.items():
        tensor.copy_(saved[name])


class Guard:
    """Notices a non-finite loss within one step and puts the state before it back.

    The verdict on step ``t`` is read while step ``t + 1`` is under way, when the device has long
    computed it: no step waits for the one before. Two copies alternate, so that the state before
    ``t`` still exists then.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._tensors = list(state.values())
        self._copies = [[t.clone() for t in self._tensors] for _ in range(2)]
        self._finite: Tensor | None = None
        self._copied: torch.cuda.Event | None = None
        self._step = -1

    def remember(self, step: int) -> None:
        """Keep the state as it is before ``step``."""
        if self._tensors:
            torch._foreach_copy_(self._copies[step % 2], self._tensors)

    def watch(self, step: int, loss: Tensor) -> None:
        """Take note of the loss of ``step`` without waiting for it."""
        self._finite, self._step = torch.isfinite(loss.detach()).to("cpu", non_blocking=True), step
        if loss.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def check(self) -> None:
        """Raise if the watched loss was not finite, after restoring the state before its step.

        Raises:
            TrainingError: the loss was NaN or infinite.
        """
        if self._copied is not None:
            self._copied.synchronize()
        if self._finite is None or bool(self._finite.all()):
            return
        for tensor, copy in zip(self._tensors, self._copies[self._step % 2], strict=True):
            tensor.copy_(copy)
        raise TrainingError(
            f"the loss of step {self._step} is not finite; the state before it is kept",
            where="loss",
            fix="lower the learning rate, use precision fp32, or look for extreme inputs",
        )


class StateFile:
    """One resumable state, written whole or not at all and refused when altered.

    The file is a SHA-256 digest followed by a torch archive that is only ever read with
    ``weights_only=True``.

    Args:
        path: the file, or None to keep nothing.
        key: names the configuration; a state of another one is refused.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key

    def load(self) -> dict[str, Any] | None:
        """The state written last, or None if there is none.

        Raises:
            ArtifactError: the file was altered.
            OutputError: it belongs to another configuration.
        """
        if self.path is None or not self.path.exists():
            return None
        data = self.path.read_bytes()
        if len(data) <= 32 or hashlib.sha256(data[32:]).digest() != data[:32]:
            raise ArtifactError(
                "the resumable state was altered or cut off", where=str(self.path), fix="delete it"
            )
        state: dict[str, Any] = torch.load(io.BytesIO(data[32:]), map_location="cpu", weights_only=True)
        if state["key"] != self.key:
            raise OutputError(
                "the resumable state belongs to another configuration",
                where=str(self.path),
                fix="use another folder",
            )
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Write ``state`` to a temporary name and rename it.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self.path is None:
            return
        buffer = io.BytesIO()
        torch.save({**state, "key": self.key}, buffer)
        data = buffer.getvalue()
        temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"cannot write: {error.strerror}", where=str(self.path)) from error
