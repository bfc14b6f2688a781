"""A page with real images and made-up figures, to be changed as a test needs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from freehold.report import (
    Accuracy,
    Attacked,
    Curve,
    DomainResult,
    Layer,
    Learning,
    MethodCard,
    PageData,
    Parameter,
    Role,
    Sample,
    Transfer,
)

CONFIGURATION = """\
seed = 0

[model]
uri = "convnet"

[data]
authorized = "digits-m"
unauthorized = ["digits"]
image_size = 32

[method]
name = "map"
variant = "source-available"
steps = 150
"""


def accuracy(value: float, images: int = 500) -> Accuracy:
    half = 1.96 * math.sqrt(value * (1 - value) / images)
    return Accuracy(value, max(0.0, value - half), min(1.0, value + half))


def domain(
    name: str, role: Role, before: float, after: float, samples: Sequence[Sample] = (), chance: float = 0.1
) -> DomainResult:
    corrected = (after - chance) / (1 - chance)
    return DomainResult(
        name, role, 500, accuracy(before), accuracy(after), chance, corrected, samples=samples
    )


def digit_samples(authorized: bool) -> list[Sample]:
    """Twelve of scikit-learn's digits, the authorized ones over patches of its photograph.

    The unauthorized ones are mostly misread after protection.
    """
    from sklearn.datasets import load_digits, load_sample_image

    digits, photograph = load_digits(), load_sample_image("flower.jpg")
    samples = []
    for index in range(12):
        image = np.kron(np.uint8(digits.images[index] * 255 / 16), np.ones((4, 4), np.uint8))
        if authorized:
            patch = photograph[30 * index : 30 * index + 32, 40 * index + 60 : 40 * index + 92]
            image = np.uint8(np.abs(patch.astype(int) - image[:, :, None]))
        truth = int(digits.target[index])
        after = truth if (authorized and index != 8) or index == 3 else (truth + 1 + index % 4) % 10
        samples.append(Sample(image, str(truth), str(truth), str(after)))
    return samples


def learning(area: float = -0.21) -> Learning:
    """Made-up curves on eight sizes; the worst attacker crosses the reference."""
    sizes = (10, 20, 50, 100, 200, 500, 1000, 2000)
    base = (0.42, 0.55, 0.76, 0.82, 0.88, 0.93, 0.95, 0.96)
    worst = (0.48, 0.57, 0.70, 0.77, 0.84, 0.90, 0.93, 0.95)
    return Learning(
        "digits",
        sizes,
        "training from scratch",
        base,
        [
            Attacked("norms reset", "equal", worst, area, area / 5.3, (area - 0.1, area + 0.1)),
            Attacked("regrow", "equal", [v - 0.05 for v in worst], -0.47, -0.089, (-0.6, -0.34)),
            Attacked("zeros kept", "equal", [v - 0.06 for v in worst], -0.49, -0.092),
        ],
        seeds=3,
    )


def make_page(**changes: object) -> PageData:
    rng = np.random.default_rng(0)
    steps = np.arange(0, 300, 3)
    source = 2.3 * np.exp(-steps / 40) + 0.05 + 0.02 * rng.random(len(steps))
    target = 0.2 + 2.9 * (1 - np.exp(-steps / 60)) + 0.1 * rng.random(len(steps))
    names = [f"features.{i}" for i in (0, 4, 7, 11, 14, 18)] + ["head"]
    totals = (864, 18_432, 36_864, 73_728, 147_456, 294_912, 2_560)
    shares = (0.941, 0.962, 0.973, 0.981, 0.988, 0.995, 0.902)
    page = PageData(
        title="digits-m, bound by MAP",
        summary=(
            "The model reads digits-m as before: 95.1 % of the test images, 0.3 points fewer than it did.",
            "On digits, where it may not be used, accuracy fell from 94.8 % to 11.2 %; guessing gives 10 %.",
            "The protected file is a plain network of the same size and speed.",
        ),
        method="map",
        card=MethodCard(
            title="MAP: mask pruning against transfer",
            paper="A made-up paper on pruning weights so that a model stays in its domain",
            venue="Example Conference 2024",
            identifier="10.5555/12345678",
            goal="Learns which weights to remove so that the model fails outside its domain.",
            changed=(
                "The mask's gradient passes straight through the threshold.",
                "Losses are clipped per sample.",
            ),
            undisclosed=("The learning rate of the mask scores.", "The number of mask steps."),
            needs=(
                "Labelled images of the authorized domain.",
                "Labelled images of each unauthorized domain.",
            ),
            breaks=(
                "Fine-tuning on a few hundred labelled images of the unauthorized domain.",
                "TransNTL: fine-tuning on a tenth of the authorized data under perturbation.",
                "Who holds the original weights as well can put the removed ones back.",
            ),
        ),
        parameters={
            "variant": Parameter(
                "source-available", "source-available", description="which data the method may see"
            ),
            "learning_rate": Parameter(3e-4, 1e-3, range="> 0", description="of the mask scores; ours"),
            "steps": Parameter(150, 200, unit="steps", range=">= 1", description="of the mask; ours"),
            "momentum": Parameter((0.9, 0.999), (0.9, 0.999), description="of Adam"),
        },
        domains=(
            domain("digits", "unauthorized", 0.948, 0.112, digit_samples(False)),
            replace(
                domain("digits-m", "authorized", 0.954, 0.951, digit_samples(True)), drop_interval=(-0.9, 1.5)
            ),
        ),
        transfer=Transfer(0.3, 83.6, 0.0031, 0.8819, 0.0036, 91.95),
        layers=[Layer(n, round(s * t), t) for n, s, t in zip(names, shares, totals, strict=True)],
        curves=(
            Curve("Loss", "authorized", steps, source, log=True, role="authorized"),
            Curve("Loss", "unauthorized", steps, target, log=True, role="unauthorized"),
            Curve("Weights kept", "all layers", steps, 1 - 0.012 * steps / 300),
            Curve(
                "Validation accuracy",
                "digits-m",
                steps[::10],
                0.95 + 0.004 * rng.random(10),
                role="authorized",
            ),
            Curve(
                "Validation accuracy", "digits", steps[::10], np.linspace(0.94, 0.11, 10), role="unauthorized"
            ),
        ),
        gallery={"Synthetic images in the place of the source": [s.image for s in digit_samples(True)]},
        learning=[learning()],
        configuration=CONFIGURATION,
        versions={"freehold": "0.1.0", "torch": "2.11.0", "python": "3.11.7"},
        record=(
            "digits-m: the 1,797 handwritten digits of scikit-learn over patches of its photographs.",
            "digits: the same digits, not blended.",
            "Train, validation and test are disjoint, split by seed 0 as 1,078 / 359 / 360.",
        ),
        notes=("Hyper-parameters were chosen on validation splits, with one seed.",),
        duration=83.4,
    )
    return replace(page, **changes)
