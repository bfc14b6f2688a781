"""Models by URI: built-in, of timm or torchvision, or from a factory. Nothing is downloaded unasked."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from freehold.errors import FreeholdError, MissingDependencyError, ModelError, UsageError
from freehold.models.anatomy import closest, find_head, resize_head
from freehold.models.encoder import fit_encoder
from freehold.models.nets import VGG11, ConvNet, ResNet20
from freehold.models.pointnet import PointNet
from freehold.models.weights import fit_weights, load_weights
from freehold.seeds import derive
from freehold.settings import Settings

BUILTIN: dict[str, type[nn.Module]] = {
    "convnet": ConvNet,
    "vgg11": VGG11,
    "resnet20": ResNet20,
    "pointnet": PointNet,
}

# Options that fetch or read weights; ignored when an architecture is rebuilt for weights we have.
_WEIGHT_OPTIONS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
_SIDES = (32, 64, 28, 224, 96, 16)  # image sizes tried to find the head of a factory's model


class ModelSpec(Settings):
    """Which model, as configurations and recipes say it.

    Attributes:
        uri: ``convnet``, ``vgg11``, ``resnet20``, ``pointnet``, ``timm:NAME``, ``torchvision:NAME`` or
            ``package.module:factory``.
        num_classes: outputs of the model.
        channels: of its images; torchvision's models take 3 only.
        weights: file to load, safetensors unless ``allow_pickle``.
        encoder: file with a pretrained trunk, loaded before ``weights``; the head stays as drawn.
        allow_pickle: accept ``.pt`` and ``.pth``, read with ``weights_only=True``.
        options: passed on to the constructor. ``pretrained = true`` lets timm and torchvision download.
    """

    uri: str
    num_classes: int = Field(ge=2)
    channels: Literal[1, 3] = 3
    weights: str | None = None
    encoder: str | None = None
    allow_pickle: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def runs_code(self) -> bool:
        """Whether building it calls a function that the URI names, so that a stranger's recipe must not."""
        return ":" in self.uri and self.uri.partition(":")[0] not in ("timm", "torchvision")

    def build(self, *, load_weights: bool = True, seed: int = 0) -> nn.Module:
        """The model in training mode, a pure function of this specification and ``seed``.

        Args:
            load_weights: ``False`` gives the bare architecture: no file is read, nothing downloaded.
            seed: of the initial weights. torch's global CPU stream is left where it was.

        Raises:
            UsageError: unknown name, or options that its constructor refuses.
            MissingDependencyError: timm or torchvision is not installed.
            ModelError: the factory fails or gives no classifier; the weights do not fit.
            MissingInputError, ArtifactError: the weights file is not there or broken.
        """
        options = {k: v for k, v in self.options.items() if load_weights or k not in _WEIGHT_OPTIONS}
        # read first: a missing file should show before a large network is drawn
        state, encoder = (
            _read(self, path) if load_weights else None for path in (self.weights, self.encoder)
        )
        scheme, _, name = self.uri.partition(":")
        model: nn.Module
        with _drawing_from(seed):
            if self.uri in BUILTIN:
                network = BUILTIN[self.uri]
                model = _call(self.uri, network, self.num_classes, channels=self.channels, **options)
            elif scheme == "timm":
                model = _from_timm(name, self, options)
            elif scheme == "torchvision":
                model = _from_torchvision(name, self, options)
            elif name:
                model = _from_factory(scheme, name, self, options)
            else:
                raise _unknown(self.uri, BUILTIN, "or timm:NAME, torchvision:NAME, package.module:factory")
        if encoder is not None:
            fit_encoder(model, encoder, where=str(self.encoder))
        if state is not None:
            fit_weights(model, state, where=str(self.weights))
        return model


def load_model(
    uri: str,
    num_classes: int,
    weights: str | Path | None = None,
    *,
    channels: Literal[1, 3] = 3,
    allow_pickle: bool = False,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a classifier by URI, with weights from a file if given.

    >>> load_model("convnet", num_classes=10).head.out_features
    10

    Arguments, result and errors are those of :class:`ModelSpec` and :meth:`ModelSpec.build`; wrong types
    or ranges raise :class:`~freehold.errors.ConfigError`.
    """
    path = None if weights is None else str(weights)
    spec = ModelSpec(
        uri=uri,
        num_classes=num_classes,
        channels=channels,
        weights=path,
        allow_pickle=allow_pickle,
        options=options,
    )
    return spec.build(seed=seed)


def _read(spec: ModelSpec, path: str | None) -> dict[str, torch.Tensor] | None:
    return None if path is None else load_weights(path, allow_pickle=spec.allow_pickle)


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """torch's initialisers know only the global stream: seed it, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "model"))
        yield


def _from_timm(name: str, spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    timm = _library("timm")
    if not timm.is_model(name):
        raise _unknown(spec.uri, (f"timm:{known}" for known in timm.list_models()), "see timm.list_models()")
    options = {"pretrained": False, "num_classes": spec.num_classes, "in_chans": spec.channels, **options}
    model: nn.Module = _call(spec.uri, timm.create_model, name, **options)
    return model


def _from_torchvision(name: str, spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    models = _library("torchvision").models
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(spec.uri, (f"torchvision:{k}" for k in known), "see torchvision.models.list_models()")
    if spec.channels != 3:
        raise UsageError(
            "torchvision's models take three channels",
            where=spec.uri,
            fix="set channels to 3 (grey images are repeated), or take the model from timm",
        )
    options = dict(options)
    if options.pop("pretrained", False):  # those weights come with a head for ImageNet's classes
        return _fit_head(_call(spec.uri, models.get_model, name, weights="DEFAULT", **options), spec)
    options = {"weights": None, "num_classes": spec.num_classes, **options}
    model: nn.Module = _call(spec.uri, models.get_model, name, **options)
    return model


def _from_factory(module: str, name: str, spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    try:
        factory = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UsageError(
            f"cannot import the factory: {error!r}", where=spec.uri, fix="write package.module:function"
        ) from error
    if not callable(factory):
        raise UsageError(f"{name} is a {type(factory).__name__}, not a function or class", where=spec.uri)
    given = {"num_classes": spec.num_classes, "channels": spec.channels}
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    known = {key: value for key, value in given.items() if key in parameters}
    model = _call(spec.uri, factory, **{**known, **options})
    if not isinstance(model, nn.Module):
        raise ModelError(f"the factory gave a {type(model).__name__}, not an nn.Module", where=spec.uri)
    return model if "num_classes" in known else _fit_head(model, spec)


def _fit_head(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Give a model whose constructor knows no number of classes a head of the right width."""
    for side in _SIDES:
        try:
            name = find_head(model, torch.zeros(1, spec.channels, side, side))
        except ModelError:
            continue
        resize_head(model, name, spec.num_classes)
        return model
    raise ModelError(
        "cannot find the linear layer that gives the model's logits",
        where=spec.uri,
        fix="let the factory take num_classes",
    )


def _call(uri: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return make(*args, **kwargs)
    except FreeholdError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"cannot be built with these options: {error}", where=uri) from error
    except Exception as error:
        raise ModelError(f"building the model fails: {error!r}", where=uri) from error


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is needed for {name}:NAME and cannot be imported: {error}",
            where="uri",
            fix=f"pip install {name}",
        ) from error


def _unknown(uri: str, known: Any, otherwise: str) -> UsageError:
    return UsageError("there is no such model", where=uri, fix=closest(uri, known) or otherwise)
