"""What a suspect answers beyond its habit: a copy that was fine-tuned says a few classes to most triggers."""

from __future__ import annotations

import torch
from torch import Tensor

FLOOR = 1e-6  # of a probability: a service may round it to zero


class Habit:
    """The mean logarithm of each class in all answers so far.

    What stands out against it depends on the suspect's answers alone, never on the key's labels. So where
    these are drawn uniformly, matches with it are Binomial(n, 1/classes) as those with plain labels are.
    """

    def __init__(self) -> None:
        self._total = torch.zeros(())
        self._count = 0

    def beyond(self, probabilities: Tensor) -> Tensor:
        """Of each answer the class farthest above the mean of all so far, these included.

        Args:
            probabilities: float32 ``(n, K)``.

        Returns:
            int64 ``(n,)``.
        """
        logs = probabilities.double().clamp_min(FLOOR).log()
        self._total = self._total + logs.sum(0)
        self._count += len(logs)
        return (logs - self._total / max(1, self._count)).argmax(1)
