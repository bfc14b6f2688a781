"""A safetensors file: bounds of the header, and that the tensors fill the rest without hole or overlap.

Layout (the format's own description): 8 bytes little-endian length, a JSON object of that length that may end
in spaces, then the bytes of the tensors; ``data_offsets`` count from the end of the header.
"""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

from freehold.errors import ArtifactError
from freehold.evidence.scan.elements import BITS, bytes_of, count_odd
from freehold.evidence.scan.report import Notes, printable
from freehold.evidence.strict import once

LARGEST_HEADER = 4 << 20  # bytes; that of a model of 10,000 tensors takes one
_MOST_AXES, _MOST_ELEMENTS = 64, 1 << 62


def scan_safetensors(file: BinaryIO, size: int, where: str, notes: Notes) -> None:
    """Read the header, check every entry, count what is not finite.

    Raises:
        ArtifactError: it does not have the structure of the format.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length < 2 or length > size - 8:
        raise _broken(f"a header of {length} bytes in a file of {size}", where)
    if length > LARGEST_HEADER:
        raise _broken(f"a header of {length} bytes; at most {LARGEST_HEADER} are read", where)
    header = _header(file.read(length), where)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken("__metadata__ is no object of texts", where)
    notes.about(metadata.items())
    spans = sorted((*_checked(name, entry, where), name) for name, entry in header.items())
    at, begin = 8 + length, 0
    for start, end, _, _, name in spans:
        if start != begin:
            fault = "overlaps the one before" if start < begin else f"leaves a hole of {start - begin} bytes"
            raise _broken(f"tensor {printable(name)} {fault}", where)
        begin = end
    if begin != size - at:
        raise _broken(f"the tensors take {begin} bytes and {size - at} are there", where)
    for start, end, kind, numbers, name in spans:
        notes.tensor(name, kind, numbers, count_odd(file, at + start, at + end, kind))


def _header(text: bytes, where: str) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise _broken("the header is no JSON object", where)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_float=_no_number)
    except RecursionError:
        raise _broken("the header is nested too deeply", where) from None
    except ValueError as error:
        raise _broken(f"the header is no JSON: {printable(str(error))}", where) from None
    return dict(header)


def _no_number(text: str) -> float:
    raise ValueError(f"{printable(text)} is no whole number")


def _checked(name: str, entry: Any, where: str) -> tuple[int, int, str, int]:
    """Start, end, element type and number of elements of one entry."""
    shown = f"tensor {printable(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"{shown} is not described by dtype, shape and data_offsets alone", where)
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BITS:
        raise _broken(f"{shown} is of the unknown type {printable(str(kind)[:200])}", where)
    if not _counts(shape) or len(shape) > _MOST_AXES or math.prod(shape) > _MOST_ELEMENTS:
        raise _broken(f"{shown} has no possible shape", where)
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(f"{shown} has no possible data_offsets", where)
    numbers, (start, end) = math.prod(shape), offsets
    if end - start != bytes_of(kind, numbers) or numbers * BITS[kind] % 8:
        raise _broken(f"{shown} takes {end - start} bytes for {numbers} elements of {kind}", where)
    return start, end, kind, numbers


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def _broken(what: str, where: str) -> ArtifactError:
    return ArtifactError(f"no safetensors file: {what}", where=where, fix="get hold of a whole copy")
