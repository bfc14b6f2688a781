"""Domains: loading, shifting and batching labelled images."""

from __future__ import annotations

from freehold.data.batches import Augment, Batch, Batches, fit_images, normalise, sequential
from freehold.data.domain import Domain, Domains, InputSpec, Split
from freehold.data.shifts import (
    SHIFTS,
    Blur,
    Colour,
    Contrast,
    Invert,
    Noise,
    Quantize,
    Rotate,
    Shift,
    Texture,
    parse_shift,
)
from freehold.data.sources import load_domain

__all__ = [
    "SHIFTS",
    "Augment",
    "Batch",
    "Batches",
    "Blur",
    "Colour",
    "Contrast",
    "Domain",
    "Domains",
    "InputSpec",
    "Invert",
    "Noise",
    "Quantize",
    "Rotate",
    "Shift",
    "Split",
    "Texture",
    "fit_images",
    "load_domain",
    "normalise",
    "parse_shift",
    "sequential",
]
