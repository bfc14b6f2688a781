"""Who is asked: a model that answers queries, of which it is said how much of it can be seen.

A suspect has an explicit input contract, counts every image that it is asked about, and gives either
answers that were checked or a :class:`~freehold.errors.SuspectError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from freehold.data.batches import fit_images, normalise
from freehold.data.inputs import InputSpec
from freehold.errors import ModelError, SuspectError, UsageError
from freehold.models.anatomy import dry_run, evaluating
from freehold.models.checkpoint import load_checkpoint
from freehold.models.weights import unwrap
from freehold.ownership.habit import Habit
from freehold.plugin import Access


class Suspect(ABC):
    """Base of all suspects. Subclasses answer; counting and checking are done here.

    Args:
        name: how verdicts call it.
        input: what images are brought to before it sees them.
        num_classes: how many classes it tells apart, at least 2.
        access: what can be seen of it.
        batch: images a query.
    """

    def __init__(
        self, name: str, input: InputSpec, num_classes: int, access: Access, *, batch: int = 256
    ) -> None:
        if num_classes < 2:
            raise UsageError(f"a suspect of {num_classes} classes", where="num_classes", fix="at least 2")
        self.name, self.input, self.num_classes = name, input, num_classes
        self.access, self.batch = Access(access), batch
        self.queries = 0  # images asked about, those without an answer included

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.access.name.lower()}, {self.queries} queries)"

    @final
    def labels(self, images: Tensor) -> Tensor:
        """The class it gives each image.

        Args:
            images: uint8 ``(n, C, H, W)``.

        Returns:
            int64 ``(n,)`` in ``[0, num_classes)``.

        Raises:
            SuspectError: no answer, or one that is not finite, of another length or out of range.
        """
        found = self._all(images)
        return found if found.dim() == 1 else found.argmax(1)

    @final
    def probabilities(self, images: Tensor) -> Tensor:
        """Its probabilities, float32 ``(n, num_classes)``; arguments and errors as :meth:`labels`.

        Raises:
            UsageError: it is only known by its labels.
        """
        if self.access < Access.PROBABILITIES:
            raise UsageError("this suspect gives labels only", where=self.name)
        found = self._all(images)
        if found.dim() != 2 or bool((found < 0).any()):
            raise SuspectError("its answers are no probabilities", where=self.name)
        return found

    def peculiar(self, images: Tensor, habit: Habit) -> Tensor:
        """The class that it gives each image beyond its habit; if it gives labels only, these.

        Args:
            images: as for :meth:`labels`; errors likewise.
            habit: of its answers so far; learns from these.
        """
        if self.access < Access.PROBABILITIES:
            return self.labels(images)
        return habit.beyond(self.probabilities(images))

    def weights(self) -> nn.Module:
        """The model itself, not to be changed.

        Raises:
            UsageError: its weights are not at hand.
        """
        raise UsageError("the weights of this suspect are not at hand", where=self.name)

    @abstractmethod
    def _answer(self, images: Tensor) -> Tensor:
        """Labels ``(n,)`` or scores ``(n, K)`` of uint8 ``(n, C, H, W)`` of its size; may raise anything."""

    def _all(self, images: Tensor) -> Tensor:
        fitted = fit_images(images, self.input)
        return torch.cat([self._checked(part) for part in torch.split(fitted, self.batch)])

    def _checked(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        try:
            found = self._answer(images)
        except SuspectError:
            raise
        except Exception as error:  # a foreign model can raise anything
            raise SuspectError(f"fails: {type(error).__name__}: {error!s:.200}", where=self.name) from error
        if not isinstance(found, Tensor):
            raise SuspectError(f"answers with {type(found).__name__}, not a tensor", where=self.name)
        found = found.detach().cpu()
        whole = not found.is_floating_point() and not found.is_complex() and found.dtype != torch.bool
        if not (whole and found.shape == (len(images),)) and not (
            found.is_floating_point() and found.shape == (len(images), self.num_classes)
        ):
            raise SuspectError(
                f"answers {len(images)} images with {str(found.dtype)[6:]} {tuple(found.shape)}",
                where=self.name,
                fix=f"expected labels (n,) or scores (n, {self.num_classes})",
            )
        if whole and not bool(((found >= 0) & (found < self.num_classes)).all()):
            raise SuspectError("answers with a class that does not exist", where=self.name)
        if not whole and not bool(found.isfinite().all()):
            raise SuspectError("answers with NaN or infinity", where=self.name)
        return found.long() if whole else found.float()


class ModuleSuspect(Suspect):
    """A network at hand. It stays as it is: evaluation mode only while it answers, nothing attached."""

    def __init__(
        self, model: nn.Module, input: InputSpec, *, name: str = "module", access: Access = Access.WEIGHTS
    ) -> None:
        self._model = unwrap(model)
        super().__init__(name, input, dry_run(self._model, input.example()).shape[1], access)

    def _answer(self, images: Tensor) -> Tensor:
        weight = next((p for p in self._model.parameters() if p.is_floating_point()), torch.empty(0))
        batch = normalise(images.to(weight.device), self.input).to(weight.dtype)
        with evaluating(self._model), torch.inference_mode():
            logits: Tensor = self._model(batch)
        return logits.float().softmax(1)

    def weights(self) -> nn.Module:
        """The model itself, not to be changed."""
        return self._model if self.access >= Access.WEIGHTS else super().weights()


class CallableSuspect(Suspect):
    """A function from normalised float32 images ``(n, C, H, W)`` to labels ``(n,)`` or probabilities."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        input: InputSpec,
        num_classes: int,
        *,
        name: str = "callable",
        access: Access = Access.LABELS,
    ) -> None:
        if access == Access.WEIGHTS:
            raise UsageError("a function shows no weights", where="access", fix="labels or probabilities")
        super().__init__(name, input, num_classes, access)
        self._function = function

    def _answer(self, images: Tensor) -> Tensor:
        return self._function(normalise(images, self.input))


def suspect(
    target: nn.Module | Callable[[Tensor], Tensor] | str | Path,
    *,
    input: InputSpec | None = None,
    num_classes: int | None = None,
    access: Access | None = None,
    **options: Any,
) -> Suspect:
    """The suspect that ``target`` is.

    Args:
        target: a module; a function; an ``http://`` or ``https://`` address; an ``.onnx`` file; or the
            directory of a saved run or checkpoint.
        input: its input contract; read from the recipe of a directory.
        num_classes: needed for functions and addresses.
        access: what may be used of it; by default all that its kind shows, of functions and addresses
            the labels.
        options: of :class:`~freehold.ownership.endpoint.EndpointSuspect`.

    Raises:
        UsageError: of no known kind, or without its contract.
        MissingInputError: there is no such file.
        ModelError: it does not take this input or has another number of classes.
        MissingDependencyError: an ONNX file, and no onnxruntime.
    """
    given: dict[str, Any] = {} if access is None else {"access": access}
    text = str(target) if isinstance(target, str | Path) else ""
    path = Path(text)
    if text and "://" not in text and path.suffix != ".onnx":
        target, recipe = load_checkpoint(path)
        input, given = input or recipe.input, {"name": path.name or text, **given}
    if input is None:
        raise UsageError("what does it take as input?", where="input", fix="give an InputSpec")
    if isinstance(target, nn.Module):
        return _counted(ModuleSuspect(target, input, **given), num_classes)
    if path.suffix == ".onnx" and "://" not in text:
        from freehold.ownership.onnx import OnnxSuspect

        return _counted(OnnxSuspect(path, input, **given), num_classes)
    if num_classes is None:
        raise UsageError("how many classes does it know?", where="num_classes", fix="give the number")
    if text:
        from freehold.ownership.endpoint import EndpointSuspect

        return EndpointSuspect(text, input, num_classes, **given, **options)
    if not callable(target):
        raise UsageError(
            f"a {type(target).__name__} is no suspect", where="suspect", fix="see freehold.suspect"
        )
    return CallableSuspect(target, input, num_classes, **given)


def _counted(found: Suspect, num_classes: int | None) -> Suspect:
    if num_classes not in (None, found.num_classes):
        raise ModelError(f"tells {found.num_classes} classes apart, not {num_classes}", where=found.name)
    return found
