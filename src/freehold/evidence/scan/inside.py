"""Runs in the child process of :mod:`freehold.evidence.scan.apart`: a script, never imported by the package.

Reads a checkpoint from standard input by torch's restricted reader and prints what tensors are in it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

CPU_SECONDS = 100
SLACK = 512 << 20  # bytes beside the file and its tensors
_REFUSED = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "ctypes.",
)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no network, no process, no file is written."""
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.startswith(_REFUSED):
        raise PermissionError(event)


def limit(size: int) -> None:
    """From here on: memory for the tensors, some seconds, no file and no process."""
    with open("/proc/self/statm") if sys.platform == "linux" else io.StringIO("0") as told:  # noqa: PTH123
        used = int(told.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = [(resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)]
    if used:
        limits.append((resource.RLIMIT_AS, used + 2 * size + SLACK))
    for which, most in limits:
        resource.setrlimit(which, (most, most))
    if hasattr(resource, "RLIMIT_NPROC"):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def tensors(found: Any, depth: int = 0) -> Iterator[Any]:
    """Every tensor in nested dicts, lists and tuples."""
    import torch

    if isinstance(found, torch.Tensor):
        yield found
    elif depth < 50 and isinstance(found, Mapping | list | tuple):
        for value in found.values() if isinstance(found, Mapping) else found:
            yield from tensors(value, depth + 1)


def main() -> dict[str, Any]:
    """What is told to the parent."""
    import torch

    warm = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, warm)
    warm.seek(0)
    torch.load(warm, weights_only=True)  # imports all that loading needs
    file = open(0, "rb", closefd=False)  # noqa: SIM115
    file.seek(0)  # the parent has read it before
    limit(os.fstat(0).st_size)
    sys.addaudithook(refuse)
    told: dict[str, Any] = {"tensors": 0, "numbers": 0, "nan": 0, "infinite": 0, "kinds": {}}
    for tensor in tensors(torch.load(file, map_location="cpu", weights_only=True)):
        kind = str(tensor.dtype).removeprefix("torch.")
        told["tensors"] += 1
        told["numbers"] += tensor.numel()
        told["kinds"][kind] = told["kinds"].get(kind, 0) + 1
        if tensor.is_floating_point() and tensor.layout == torch.strided:
            told["nan"] += int(tensor.isnan().sum())
            told["infinite"] += int(tensor.isinf().sum())
    return told


if __name__ == "__main__":
    try:
        print(json.dumps(main()))
    except BaseException as error:
        print(json.dumps({"refused": f"{type(error).__name__}: {error!s:.200}"}))
