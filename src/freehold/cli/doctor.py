"""``freehold doctor``: is this machine fit for the work, and what will be used of it?"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from freehold.cli.common import Debug, Json, console, print_json, working

NEEDED_SPACE = 1 << 30
EXTRAS = {
    "tensorboard": "tensorboard",
    "onnx": "onnxruntime",
}  # extra of the package: a distribution that it brings


class Finding(NamedTuple):
    """One property of the machine; not ``ok`` means that work will fail."""

    what: str
    ok: bool
    detail: str


def doctor(json: Json = False, debug: Debug = False) -> int:
    """Check what this machine offers, and what it lacks."""
    with working():
        findings = [
            Finding("python", sys.version_info >= (3, 11), platform.python_version()),
            *(_tried(check) for check in (_packages, _torch, _device, _threads, _writable, _space)),
            *(_extra(name, brings) for name, brings in EXTRAS.items()),
        ]
    healthy = all(finding.ok for finding in findings)
    if json:
        print_json({"healthy": healthy, "findings": [finding._asdict() for finding in findings]})
    else:
        for what, ok, detail in findings:
            console().print(f"{'ok  ' if ok else 'FAIL'}  {what:<18}{detail}", soft_wrap=True)
    return 0 if healthy else 1


def _tried(check: Callable[[], Finding]) -> Finding:
    """The finding of ``check``; whatever goes wrong in it is the finding."""
    try:
        return check()
    except Exception as error:
        return Finding(check.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _packages() -> Finding:
    required = [line for line in metadata.requires("freehold") or [] if "extra ==" not in line]
    versions, missing = [], []
    for line in required:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    return Finding(
        "packages", not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(versions)
    )


def _torch() -> Finding:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return Finding("torch", True, f"{torch.__version__}, {build}")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("device", True, ", ".join(found))
    return Finding("device", True, "Apple GPU" if torch.backends.mps.is_available() else "CPU only")


def _threads() -> Finding:
    """Time training steps of a small network with different numbers of threads."""
    import torch
    from torch.nn import functional as F

    from freehold.models.nets import ConvNet
    from freehold.training.threads import choose_threads, usable_cores

    default = torch.get_num_threads()
    model, images = ConvNet(10), torch.zeros(64, 3, 32, 32)

    def step(count: int) -> None:
        F.cross_entropy(model(images[:count]), torch.zeros(count, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]

    try:
        chosen = choose_threads(step, len(images))
    finally:
        torch.set_num_threads(default)
    return Finding(
        "threads", True, f"{chosen} train fastest; {usable_cores()} cores, torch's default is {default}"
    )


def _writable() -> Finding:
    here = Path.cwd()
    with tempfile.TemporaryFile(dir=here) as file:
        file.write(b"freehold")
    return Finding("working directory", True, str(here))


def _space() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding("disk", free >= NEEDED_SPACE, f"{free / (1 << 30):.1f} GiB free")


def _extra(name: str, brings: str) -> Finding:
    try:
        return Finding(f"[{name}]", True, metadata.version(brings))
    except metadata.PackageNotFoundError:
        return Finding(f"[{name}]", True, f"not installed; pip install 'freehold[{name}]'")
