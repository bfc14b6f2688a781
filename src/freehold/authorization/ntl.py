"""NTL: non-transferable learning, target-specified and source-only (Wang et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from freehold.authorization.pairing import Retraining, joint_logits
from freehold.data.batches import Batch
from freehold.data.domain import Domains
from freehold.models.anatomy import Tap, find_head
from freehold.plugin import Card
from freehold.protection import Outcome
from freehold.training import Trainer
from freehold.training.losses import label_divergence, mmd


def ntl_loss(
    source: Tensor, target: Tensor, distance: Tensor, *, form: str, alpha: float = 0.1, beta: float = 1.0
) -> Tensor:
    """The non-transferable loss from its three ingredients, all scalars.

    ``paper``: ``L_S - min(beta, alpha * L_T * min(beta, alpha * MMD))``, the product clipped.
    ``reference``: ``L_S - min(beta, alpha * L_T) * min(beta, alpha * MMD)``, each factor clipped.

    Args:
        source: divergence from label to prediction on the source batch.
        target: the same on the target batch.
        distance: MMD between the features of both.
        form: ``"paper"`` or ``"reference"``.
        alpha: weight of the target term, and of the distance.
        beta: bound of the product, or of each factor.
    """
    far = (alpha * distance).clamp_max(beta)
    if form == "paper":
        return source - (alpha * target * far).clamp_max(beta)
    return source - (alpha * target).clamp_max(beta) * far


class NTL(Retraining):
    """Retrains the whole network so that source and target features part and target labels are lost."""

    name = "ntl"
    kind = "authorization"
    card: ClassVar[Card] = Card(
        title="Non-Transferable Learning, target-specified or source-only",
        paper="Non-Transferable Learning: A New Approach for Model Ownership Verification and Applicability "
        "Authorization",
        venue="ICLR 2022",
        goal="Retrain a model so that it keeps its source domain and loses a known target domain.",
        changed=(
            "starts from the trained model that is handed in; the publication starts from ImageNet weights",
            "the kept state is the best on validation images; the reference code keeps the last",
            "both batches are translated at random by up to two pixels; the publication augments nothing",
            "Adam at 5e-4 with cosine decay instead of 1e-4 with 0.999 a step: from a trained model the "
            "product of target loss and distance starts near zero, and takes some 300 steps to grow even so",
            "MMD in Gram form: equal value and gradient, without the (2B)x(2B)xD tensor",
            "source-only: hand-made looks of the source, in which the unprotected model still sees the "
            "class, take the place of the publication's adversarially trained generator",
        ),
        undisclosed=(
            "paper and reference code clip differently; both are offered, and the code divides both "
            "divergences by K",
            "batch norm: one joint pass over both domains, as later benchmark code does",
        ),
        needs=("labelled source images", "labelled target images of the same classes, or none at all"),
        breaks=(
            "TransNTL (CVPR 2024): fine-tuning on a tenth of the source data with perturbed inputs",
            "JailNTL (CVPR 2025): disguising target images as source images, with black-box access only",
            "fine-tuning on labelled target images",
        ),
    )

    loss_form: Literal["paper", "reference"] = Field(
        "paper",
        description="which statement of the loss; both protect, the paper's clips the product and settles",
    )
    alpha: float = Field(
        0.1, gt=0, le=10, description="weight of target loss and of feature distance (paper: 0.1)"
    )
    beta: float = Field(1.0, gt=0, le=100, description="clip of the adversarial term (paper: 1)")
    features: Literal["pooled", "stage"] = Field(
        "pooled",
        description="where MMD looks: the head's input, or the middle stage flattened as in plain VGG",
    )

    def _protect(self, model: nn.Module, domains: Domains, trainer: Trainer) -> Outcome:
        layer, side = self._tapped(model, domains, trainer)
        reduction = "mean" if self.loss_form == "reference" else "batchmean"

        with Tap(model, layer, side) as tap:

            def objective(forward: nn.Module, batches: Mapping[str, Batch], step: int) -> dict[str, Tensor]:
                source, target = joint_logits(forward, batches)
                size = len(source)
                distance = mmd(tap.value[:size], tap.value[size:])
                kept = label_divergence(source, batches["source"].labels, reduction)
                lost = label_divergence(target, batches["target"].labels, reduction)
                loss = ntl_loss(kept, lost, distance, form=self.loss_form, alpha=self.alpha, beta=self.beta)
                return {"loss": loss, "source loss": kept, "target loss": lost, "distance": distance}

            history = self._retrain(model, objective, domains, trainer)
        return Outcome(model, {self.name: history})

    def _tapped(
        self, model: nn.Module, domains: Domains, trainer: Trainer
    ) -> tuple[str, Literal["input", "output"]]:
        example = domains.input.example().to(trainer.device)
        if self.features == "pooled":
            return find_head(model, example), "input"
        from freehold.models.stages import stages

        ends = stages(model, example)
        return ends[(len(ends) - 1) // 2], "output"
