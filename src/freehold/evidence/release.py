"""A release: the folder that customers get. Weights, recipe, model card, and nothing of a key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from freehold.artifacts import RunFolder, as_json, file_hash, finished, verify_run
from freehold.artifacts.manifest import MANIFEST, files_of
from freehold.config import from_json
from freehold.data.domain import Domain
from freehold.errors import ArtifactError, MissingInputError, SecretError, UsageError
from freehold.evidence.claim import Signed, read_file
from freehold.evidence.leaks import refuse_traces, traces
from freehold.evidence.modelcard import model_card
from freehold.evidence.onnx_export import write_int8, write_onnx
from freehold.evidence.released import CARD, CLAIM, INT8, ONNX, Mark, Quantised, Release
from freehold.jobs.assembly import load_domains, load_shipped
from freehold.keys import Key
from freehold.metrics.accuracy import Accuracy, predict
from freehold.models.checkpoint import MODEL, RECIPE, Recipe
from freehold.ownership.base import OwnershipMethod, method_of
from freehold.ownership.onnx import OnnxSuspect
from freehold.ownership.suspect import ModuleSuspect, Suspect
from freehold.protection import versions

_MEASURED = 2000  # test images that a quantised model is measured on


@dataclass(frozen=True)
class _Run:
    """A finished run as a release needs it."""

    path: Path
    about: dict[str, Any]
    model: nn.Module
    recipe: Recipe


def export(
    run: str | Path,
    out: str | Path,
    *,
    onnx: bool = False,
    int8: bool = False,
    one_graph: bool = False,
    key: Key | None = None,
    claim: str | Path | None = None,
    license: str = "other",
    uri: str | None = None,
) -> Release:
    """Publish the model of a finished run as a folder of its own, whole or not at all.

    The weights are the run's, byte for byte. Every byte of the run is checked before, and with a key
    every byte of the release is searched for it before the folder gets its name.

    Args:
        run: made by ``train``, ``protect`` or ``watermark``.
        out: the folder to make; killed on the way, the same call completes it.
        onnx: also write ``model.onnx``, equal to the model within 1e-4.
        int8: also write ``model-int8.onnx``; its ranges are measured on the run's authorized domain.
        one_graph: names and order in the ONNX files do not tell PTYNet's branch; its edges still do.
        key: of the marked model; refuses a release that would hold anything of it, and verifies the mark in
            every file that is released.
        claim: a signed claim on this run, to lie beside the weights as ``claim.json``.
        license: of the weights, for the card's head.
        uri: allows a model that the owner's own code builds, as ``package.module:factory``.

    Raises:
        MissingInputError: the run is not there, or with ``int8`` its data are not.
        ArtifactError: the run was altered, or the claim is no claim or on another model.
        SecretError: the key is not the run's, or the release would hold a part of it.
        ModelError: the ONNX file does not say what the model says.
        MissingDependencyError: the extra ``[onnx]`` is not installed.
        OutputError: ``out`` is in use or cannot be written.
        UsageError: ``run`` is none of those, ``out`` lies in it, or ``one_graph`` without an ONNX file.
    """
    run, out = Path(run), Path(out)
    about = verify_run(run)
    if about.get("job") not in ("train", "protect", "watermark"):
        raise UsageError("holds no model to release", where=str(run), fix="name a run of train or protect")
    if out.resolve().is_relative_to(run.resolve()):
        raise UsageError(
            "a release inside the run would alter it", where=str(out), fix="choose another folder"
        )
    if one_graph and not (onnx or int8):
        raise UsageError("is about an ONNX file", where="--one-graph", fix="ask for --onnx as well")
    if key is not None and about.get("commitment", key.commitment) != key.commitment:
        raise SecretError("is not the key of this run", where="key", fix="name the key that was made with it")
    method = method_of(key) if key is not None else None
    signed = _claimed(Path(claim), run) if claim is not None else None
    wanted = {"onnx": onnx or int8, "int8": int8, "one_graph": one_graph, "license": license}
    wanted |= {"key": key and key.commitment, "claim": signed and signed.digest}
    identity = {"job": "export", "run": file_hash(run / MANIFEST), **wanted}
    if (done := finished(out, identity)) is not None:
        return Release.model_validate({**done["release"], "directory": out, "already": True})
    source = _Run(run, about, *load_shipped(run, uri))
    header = {"job": "export", "versions": versions()}
    with RunFolder(out, identity, header, logs=False) as folder:
        for name in (MODEL, RECIPE):
            folder.write(name, (run / name).read_bytes())
        path = folder.path
        difference = None
        if onnx or int8:
            difference = write_onnx(source.model, source.recipe.input, path / ONNX, one_graph)
        release = Release(
            directory=out,
            difference=difference,
            int8=_quantise(source, path) if int8 else None,
            marks=_marks(source, method, key, path) if method and key else (),
            searched=key is not None,
            signer=signed.claim.predicate.signer if signed else None,
        )
        if claim is not None:
            folder.write(CLAIM, Path(claim).read_bytes())
        folder.write(CARD, model_card(run, about, source.recipe, release, license).encode())
        told = release.model_dump(mode="json", exclude={"directory", "already"})
        if method and key:
            known = traces(key, method._trials(key).labels)
            refuse_traces(files_of(path).values(), {"run.json": as_json(told)}, known)
        folder.publish(release=told)
    return release


def _claimed(path: Path, run: Path) -> Signed:
    """A claim on the files that are released; its signature holds."""
    signed = read_file(path)
    for name in (MODEL, RECIPE):
        if signed.claim.files.get(name) != file_hash(run / name):
            raise ArtifactError(
                f"is a claim on another {name}", where=str(path), fix="name the claim made on this run"
            )
    return signed


def _quantise(source: _Run, path: Path) -> Quantised:
    """Write the quantised model and measure what it costs."""
    domain, spec = _authorized(source), source.recipe.input
    write_int8(path / ONNX, spec, domain.train.images, path / INT8)
    labels = domain.test.labels[:_MEASURED]
    own = predict(source.model, domain.test, spec, limit=_MEASURED).cpu()
    other = OnnxSuspect(path / INT8, spec).labels(domain.test.images[:_MEASURED])
    counts = [int((one == two).sum()) for one, two in ((own, labels), (other, labels), (own, other))]
    before, after, agreement = (Accuracy.of(count, len(labels)) for count in counts)
    return Quantised(domain=domain.name, before=before, after=after, agreement=agreement)


def _authorized(source: _Run) -> Domain:
    config = from_json(source.about["config"])
    if config.data.authorized is None:
        raise MissingInputError(
            "the run has no authorized domain to measure the ranges of a quantised model on",
            where="--int8",
            fix="leave it out",
        )
    only = config.model_copy(update={"data": config.data.model_copy(update={"unauthorized": ()})})
    domain = load_domains(only, source.recipe.input).authorized
    assert domain is not None  # it was named
    return domain


def _marks(source: _Run, method: OwnershipMethod, key: Key, path: Path) -> tuple[Mark, ...]:
    """What the key finds in each released model."""
    spec = source.recipe.input
    found = [_mark(MODEL, ModuleSuspect(source.model, spec, name=MODEL), method, key)]
    for name in (ONNX, INT8):
        if (path / name).exists():
            found.append(_mark(name, OnnxSuspect(path / name, spec), method, key))
    return tuple(found)


def _mark(name: str, suspect: Suspect, method: OwnershipMethod, key: Key) -> Mark:
    if suspect.access < method.access:
        return Mark(file=name)
    verdict = method.verify(suspect, key, commitment=key.commitment)
    return Mark(
        file=name,
        decision=verdict.decision,
        matches=verdict.matches,
        trials=verdict.trials,
        p_value=verdict.p_value,
    )
