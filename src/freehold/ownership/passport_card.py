"""What a reader must know before trusting passports."""

from __future__ import annotations

from freehold.plugin import Card

CARD = Card(
    title="Passport-aware normalization (PAN), and DeepIPR",
    paper="Passport-aware Normalization for Deep Model Protection; "
    "Rethinking Deep Neural Network Ownership Verification: Embedding Passports to Defeat Ambiguity Attacks",
    venue="NeurIPS 2020; NeurIPS 2019",
    identifier="arXiv:2010.15824",
    goal="Tie a model's weights to a secret, so that its owner can read bits out of them and run a second, "
    "private branch on them; what is shipped is the plain network.",
    changed=(
        "passports and bits are drawn from the key: an innocent model has each bit with chance 1/2",
        "the passport is its mean under the convolution, a vector as long as a filter: nothing is convolved; "
        "projections are divided by the filter's norm, so that scaling a channel changes none",
        "a bit is the sign along the passport relative to the filter's sign along a second secret direction, "
        "and is read after channels are brought back to the order, sign and scale of the weights from before "
        "the bits were written",
        "bits are drawn from the key and that reference, so that a reference cannot be made to fit them, and "
        "the p-value counts 2^64 times even under a commitment, for those that could have been tried",
        "bits are written by the smallest change of each filter, and held by the hinge; publications learn "
        "them from chance on. The margin is several times theirs",
        "filters shorter than half their layer's median are lifted to it where a batch norm takes the scale "
        "out again: bits in filters that training let shrink away went first when small weights were pruned",
        "h starts where it gives the public scale and shift (pseudo-inverse), so that a trained model can be "
        "marked; the publication trains from scratch. Its middle has at least 16 values",
        "channels that a thief cut out or put out are no trials; others are found by what is left of them",
        "without a commitment the verdict is INCONCLUSIVE, whatever is read: h, private statistics and "
        "reference could have been made to fit",
        "layer norm, and batch norms that are not marked but lie behind a marked layer: statistics of their "
        "own in the private branch",
        "an untrained model is trained with both branches for half of the steps before the bits are written",
        "DeepIPR's V3 is its V2 with a trigger set put on the released network afterwards, under a key of "
        "its own; the publication teaches triggers to both branches along with the passports",
    ),
    undisclosed=(
        "whether branches were trained in turn or summed: the text is quoted either way, the code sums",
        "which share of bits is enough: no threshold is given",
    ),
    needs=(
        "labelled authorized images",
        "norm layers with a scale and a shift a channel, behind a convolution or linear layer",
        "the suspect's weights, in an architecture with the same layer names, whatever is wrapped around it",
        "the commitment, published before release",
    ),
    breaks=(
        "distillation or training from scratch: nothing of the weights is left",
        "expanded residual blocks and the closed-form forgery give an attacker a private branch of his own "
        "that works as well: accuracy with claimed passports proves nothing, only committed bits do",
        "an attacker who re-trains with a hinge of his own adds bits of his: commitments tell who was first",
        "a change of architecture: layers that were split, merged or factorised, or have less than half of "
        "their channels left, cannot be read",
    ),
)
