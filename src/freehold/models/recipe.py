"""The recipe of a saved model: how to rebuild its architecture, and what to feed it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticSerializationError
from torch import nn

from freehold.data.inputs import InputSpec
from freehold.errors import ArtifactError, ModelError, UsageError
from freehold.models.anatomy import find_head, resize_head
from freehold.models.fusion import Branch, Fused, Fusion
from freehold.models.weights import unwrap
from freehold.models.zoo import ModelSpec
from freehold.settings import Settings

RECIPE = "recipe.json"

_LARGEST = 1 << 20  # bytes


class ResizeHead(Settings):
    """The linear layer ``name`` gives ``num_classes`` logits."""

    kind: Literal["resize-head"] = "resize-head"
    name: str
    num_classes: int = Field(ge=2)

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with that head; changed in place."""
        resize_head(model, self.name, self.num_classes)
        return model


class AttachBranch(Settings):
    """The model becomes the target inside a :class:`~freehold.models.fusion.Fused`."""

    kind: Literal["attach-branch"] = "attach-branch"
    num_classes: int = Field(ge=2, le=100_000)
    channels: Literal[1, 3]
    pool: int = Field(ge=1, le=256)
    fusion: Fusion
    strength: float = Field(gt=0, le=100)

    def apply(self, model: nn.Module) -> nn.Module:
        """The model and a branch whose weights are still to be loaded, as one."""
        branch = Branch(self.num_classes, self.channels, pool=self.pool)
        return Fused(model, branch, self.fusion, self.strength)


Edit = Annotated[ResizeHead | AttachBranch, Field(discriminator="kind")]


class Recipe(Settings):
    """How to rebuild a model around its weights, and what to feed it.

    Attributes:
        format: version of this description; an unknown one is refused.
        model: the bare architecture; ``None`` where only its owner's code can build it.
        input: what the model expects of its images.
        classes: names of the classes, in the order of the logits.
        edits: structural changes to the bare architecture, in order.
    """

    format: Literal[1] = 1
    model: ModelSpec | None = None
    input: InputSpec
    classes: tuple[str, ...] = Field(min_length=2)
    edits: tuple[Edit, ...] = ()

    @field_validator("model")
    @classmethod
    def _without_files(cls, model: ModelSpec | None) -> ModelSpec | None:
        """The weights are in the checkpoint; where the first ones lay is nobody's business."""
        return model and model.model_copy(update={"weights": None, "allow_pickle": False})

    @classmethod
    def of(cls, model: nn.Module, spec: ModelSpec | None, input: InputSpec, classes: tuple[str, ...]) -> Self:
        """The recipe of ``model`` as it is: its head is looked up and recorded.

        Raises:
            ModelError: the model has no linear head, or not one output a class.
        """
        model = unwrap(model)
        head = find_head(model, input.example())
        width = model.get_submodule(head).out_features
        if width != len(classes):
            raise ModelError(f"the model gives {width} logits for {len(classes)} classes", where=head)
        return cls(
            model=spec, input=input, classes=classes, edits=(ResizeHead(name=head, num_classes=width),)
        )

    def to_json(self) -> bytes:
        """The recipe as indented JSON, UTF-8.

        Raises:
            UsageError: a model option has no place in JSON.
        """
        try:
            return self.model_dump_json(indent=2).encode()
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise UsageError(
                f"the recipe cannot be written: {error}",
                where="model.options",
                fix="use text, numbers, lists",
            ) from error

    @classmethod
    def from_json(cls, text: bytes, *, where: str = RECIPE) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ArtifactError: not JSON, unknown keys, or of another format.
        """
        if len(text) > _LARGEST:
            raise ArtifactError("far too large for a recipe", where=where)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, fault["loc"]))
            raise ArtifactError(
                f"not a recipe that this version reads: {field and field + ': '}{fault['msg']}",
                where=where,
                fix="use the version of freehold that wrote it, or export the model again",
            ) from error
