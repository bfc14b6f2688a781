"""The model's input contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from freehold.settings import Settings


class InputSpec(Settings):
    """The model's input contract: what every domain's images are brought to.

    A model sees ``(pixel / 255 - mean) / std`` per channel; the defaults give the range [-1, 1].
    """

    size: tuple[int, int] = Field(
        (32, 32), description="height and width in pixels, 4..4096; one int for a square"
    )
    channels: Literal[1, 3] = Field(
        3, description="1 grey or 3 RGB; grey is repeated, colour is weighted to luma"
    )
    mean: tuple[float, ...] = Field((0.5, 0.5, 0.5), description="per channel, in [0, 1]")
    std: tuple[float, ...] = Field((0.5, 0.5, 0.5), description="per channel, in (0, 1]")

    def example(self) -> Tensor:
        """Two blank images ``(2, C, H, W)``, for looking at a model in a dry run."""
        return torch.zeros(2, self.channels, *self.size)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Any) -> Any:
        """A single number for size, mean or std stands for all axes or channels; so do the defaults."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if isinstance(data.get("size"), int):
            data["size"] = (data["size"],) * 2
        for key in ("mean", "std"):
            if isinstance(data.setdefault(key, 0.5), int | float):
                data[key] = (data[key],) * (1 if data.get("channels") == 1 else 3)
        return data

    @field_validator("size")
    @classmethod
    def _size_in_range(cls, size: tuple[int, int]) -> tuple[int, int]:
        if not all(4 <= side <= 4096 for side in size):
            raise ValueError("sides must be 4..4096 pixels")
        return size

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> InputSpec:
        for key, values, low in (("mean", self.mean, 0.0), ("std", self.std, 1e-6)):
            if len(values) != self.channels:
                raise ValueError(f"{key} has {len(values)} values for {self.channels} channels")
            if not all(low <= value <= 1 for value in values):
                raise ValueError(
                    f"{key} must lie in {'[0, 1]' if low == 0 else '(0, 1]'}: pixels are scaled to [0, 1]"
                )
        return self
