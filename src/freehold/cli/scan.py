"""``freehold scan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli.common import Debug, Json, console, print_json

if TYPE_CHECKING:
    from freehold.evidence.scan import Inspection


def scan(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .onnx, .pt, .pth, .bin, .ckpt or .pkl file.")],
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Look into a model file of unknown origin without running anything that is in it.

    Exit code 0: safe to open; 1: opening it may run a stranger's code or reach outside; 2: this cannot be
    said; 65: it does not have the structure of its format.
    """
    from freehold.evidence.scan import scan as look

    found = look(file)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)
    return {"SAFE": 0, "UNSAFE": 1, "DOUBTFUL": 2}[found.verdict]


def _print(found: Inspection) -> None:
    out = console()
    held = "its tensors were not loaded"
    if found.tensors is not None:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in found.kinds.items())
        held = f"{found.tensors} tensors ({kinds}), {found.numbers:,} numbers" if kinds else "no tensors"
    out.print(f"{found.verdict}: {found.path}: {found.format}, {found.size:,} bytes, {held}", soft_wrap=True)
    for finding in found.findings:
        where = f"{finding.where}: " if finding.where else ""
        out.print(f"  {finding.level}: {where}{finding.what}", soft_wrap=True)
    for title, names in (("asks for", found.globals), ("operators", found.operators)):
        if names:
            out.print(f"  {title}: {', '.join(names)}", soft_wrap=True)
    for key, text in found.metadata.items():
        out.print(f"  says {key}: {text}", soft_wrap=True)
    out.print(f"  sha256 {found.sha256}", soft_wrap=True)
