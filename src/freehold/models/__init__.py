"""Models: where they come from, what they are made of, how they are masked and kept on disk."""

from freehold.models.anatomy import (
    Tap,
    dry_run,
    evaluating,
    find_head,
    maskable_weights,
    norm_layers,
    resize_head,
)
from freehold.models.checkpoint import apply_mask_file, load_checkpoint, save_checkpoint
from freehold.models.layers import (
    apply_mask,
    attach_masks,
    fuse_masks,
    masked,
    pack_masks,
    read_masks,
    remove_masks,
    unpack_masks,
)
from freehold.models.nets import VGG11, ConvNet, ResNet20
from freehold.models.recipe import AttachBranch, Edit, Recipe, ResizeHead
from freehold.models.stages import stages
from freehold.models.weights import fit_weights, load_weights, state_hash, unwrap
from freehold.models.zoo import ModelSpec, load_model

__all__ = [
    "VGG11",
    "AttachBranch",
    "ConvNet",
    "Edit",
    "ModelSpec",
    "Recipe",
    "ResNet20",
    "ResizeHead",
    "Tap",
    "apply_mask",
    "apply_mask_file",
    "attach_masks",
    "dry_run",
    "evaluating",
    "find_head",
    "fit_weights",
    "fuse_masks",
    "load_checkpoint",
    "load_model",
    "load_weights",
    "maskable_weights",
    "masked",
    "norm_layers",
    "pack_masks",
    "read_masks",
    "remove_masks",
    "resize_head",
    "save_checkpoint",
    "stages",
    "state_hash",
    "unpack_masks",
    "unwrap",
]
