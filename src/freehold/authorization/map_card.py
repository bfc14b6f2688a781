"""What a reader must know before trusting MAP."""

from __future__ import annotations

from freehold.plugin import Card

CARD = Card(
    title="MAP, mask pruning: source-available, source-free and data-free",
    paper="MAP: MAsk-Pruning for Source-Free Model Intellectual Property Protection",
    venue="CVPR 2024",
    goal="Cut the few weights that carry a model to an unauthorized domain, and touch no other.",
    changed=(
        "the target term is cut per sample, not per batch: samples that are wrong enough stop pushing",
        "beside the labels, the source side may hold on to the unprotected model's answers (divergence "
        "at temperature 2) and pooled features, computed once on the unshifted images",
        "the optimiser's denominator has a floor: without it, our runs cut weights en masse and lost the "
        "source",
        "source-available: the kept mask is the best on validation images; the other variants keep the "
        "last, since they have nothing to choose by",
        "source-free and data-free: one conditional generator matched to batch norm statistics gives a "
        "fixed bank of synthetic images; the publication's generators are trained along with the mask",
        "source-free and data-free: the mask is held to the unprotected model's features in every masked "
        "layer, which saved more of the source than anything else, and pushes on the target only "
        "until most of it is lost",
        "data-free: the neighbour domains are hand-made looks (tone, polarity, colour, texture, "
        "sharpness, figure and ground), kept only where the unprotected model still sees the same class; "
        "the publication learns them",
    ),
    undisclosed=(
        "the paper's mask parametrisation, loss weights and tables were not available to us: scores, "
        "threshold, straight-through gradient and all defaults are ours",
        "norm layers stay in evaluation mode: in training mode our runs protected nothing or lost the source",
    ),
    needs=(
        "source-available: labelled source and target images",
        "source-free: unlabelled target images; data-free: nothing but the model",
        "convolution or linear layers; without source data also batch norm, or the images that stand in "
        "for the source are poor",
    ),
    breaks=(
        "whoever holds the original weights can put the cut ones back",
        "fine-tuning all weights on labelled target images regrows what was cut",
        "TransNTL (CVPR 2024) and source-free adaptation break NTL and CUTI; not run against MAP here",
    ),
)
