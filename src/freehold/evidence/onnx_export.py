"""A model as an ONNX file that says the same, and as one of 8-bit integers that says nearly the same."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freehold.artifacts import write_file
from freehold.data.batches import fit_images, normalise
from freehold.data.inputs import InputSpec
from freehold.errors import MissingDependencyError, ModelError
from freehold.evidence.one_graph import into_one
from freehold.models.anatomy import evaluating
from freehold.seeds import generator

TOLERANCE = 1e-4  # of the largest logit, or of 1
CALIBRATION = 256  # images that the ranges of activations are measured on
_LARGEST = (1 << 31) - 1  # bytes of one protocol buffer
_PROBES = 32  # images that both are asked about


def write_onnx(model: nn.Module, spec: InputSpec, path: Path, one_graph: bool = False) -> float:
    """Write ``model`` as ONNX, input ``images`` float32 ``(n, C, H, W)``, output ``logits`` ``(n, K)``.

    What the exporter adds about the machine it ran on (names of source files, lines of code) is taken out.

    Args:
        model: in evaluation mode, on the CPU.
        spec: its input.
        path: the file.
        one_graph: see :mod:`freehold.evidence.one_graph`.

    Returns:
        Largest difference of a logit over 32 images of noise, relative to the largest logit or 1.

    Raises:
        MissingDependencyError: the extra ``[onnx]`` is not installed.
        ModelError: it cannot be exported, or differs by more than 1e-4.
        OutputError: the file cannot be written.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    batch = torch.export.Dim("n")
    try:
        with _quiet(), evaluating(model):
            program = torch.onnx.export(
                model,
                (spec.example(),),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base
        what = f"cannot be exported: {type(error).__name__}: {error!s:.200}"
        raise ModelError(what, where=path.name, fix="leave out --onnx") from error
    if program is None:
        raise ModelError("cannot be exported", where=path.name, fix="leave out --onnx")
    proto = program.model_proto
    if one_graph:
        into_one(proto.graph)
    _write(proto, path)
    return _difference(model, spec, path)


def write_int8(source: Path, spec: InputSpec, images: Tensor, path: Path) -> None:
    """Quantise an ONNX file: weights by channel, activations by their range on ``images``.

    Args:
        source: written by :func:`write_onnx`.
        spec: its input.
        images: uint8 ``(n, C, H, W)``, of the kind that the model is for; the first 256 are used.
        path: the file to write.

    Raises:
        MissingDependencyError: the extra ``[onnx]`` is not installed.
        ModelError: onnxruntime cannot quantise it.
        OutputError: the file cannot be written.
    """
    _need("onnx", "onnxruntime")
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            parts = torch.split(normalise(fit_images(images[:CALIBRATION], spec), spec), 32)
            self._left = iter([{"images": part.numpy()} for part in parts])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    prepared, written = (path.with_name(f"{path.name}.{what}.tmp") for what in ("in", "out"))
    try:
        with _quiet():
            quant_pre_process(str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(written),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
            )
        _write(onnx.load(str(written)), path)
    except (ModelError, OSError):
        raise
    except Exception as error:  # onnxruntime's own errors have no common base
        what = f"cannot be quantised: {type(error).__name__}: {error!s:.200}"
        raise ModelError(what, where=path.name, fix="leave out --int8") from error
    finally:
        for passing in (prepared, written):
            passing.unlink(missing_ok=True)


def _difference(model: nn.Module, spec: InputSpec, path: Path) -> float:
    import onnxruntime

    shape = (_PROBES, spec.channels, *spec.size)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0, "export"))
    images = normalise(noise, spec)
    with evaluating(model), torch.inference_mode():
        own = model(images)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        other = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    except Exception as error:  # onnxruntime's own errors have no common base
        raise ModelError(f"onnxruntime cannot run it: {error!s:.200}", where=path.name) from error
    found = float((other - own).abs().max() / own.abs().max().clamp_min(1))
    if not found <= TOLERANCE:
        what = f"its answers differ from the model's by {found:.1e}; at most {TOLERANCE:.0e} is allowed"
        raise ModelError(what, where=path.name, fix="leave out --onnx")
    return found


def _write(proto: Any, path: Path) -> None:
    _strip(proto)
    if proto.ByteSize() > _LARGEST:
        raise ModelError("is too large for a single ONNX file", where=path.name, fix="leave out --onnx")
    write_file(path, proto.SerializeToString())


def _strip(message: Any) -> None:
    """Take out comments and metadata at every depth: they tell paths and code of the owner's machine."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in value if hasattr(value, "__len__") else (value,):
                _strip(inner)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' advice to their own developers is not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _need(*modules: str) -> None:
    for name in modules:
        try:
            __import__(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"{name} is not installed", where="onnx", fix="pip install 'freehold[onnx]'"
            ) from error
