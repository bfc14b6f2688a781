"""Element types of tensors in files: their width, and how many of their values are no finite numbers."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import numpy as np

_BLOCK = 1 << 22  # bytes read at a time

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F4", "U4", "I4"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "C128": 128,
}


class _Layout(NamedTuple):
    word: str
    exponent: int
    mantissa: int


# A value is not finite if all bits of its exponent are set, and then infinite if its mantissa is 0.
_FLOATS = {
    "F64": _Layout("<u8", 0x7FF << 52, (1 << 52) - 1),
    "F32": _Layout("<u4", 0x7F800000, 0x7FFFFF),
    "F16": _Layout("<u2", 0x7C00, 0x3FF),
    "BF16": _Layout("<u2", 0x7F80, 0x7F),
    "F8_E5M2": _Layout("<u1", 0x7C, 0x3),
    "F8_E4M3": _Layout("<u1", 0x7F, 0),  # knows no infinity
    "F8_E8M0": _Layout("<u1", 0xFF, 0),
}
_FLOATS |= {"C64": _FLOATS["F32"], "C128": _FLOATS["F64"]}


def bytes_of(kind: str, count: int) -> int:
    """Bytes that ``count`` elements take."""
    return (count * BITS[kind] + 7) // 8


def count_odd(file: BinaryIO, start: int, end: int, kind: str) -> tuple[int, int]:
    """NaN and infinite values among the elements of ``kind`` in bytes ``[start, end)`` of ``file``."""
    if kind not in _FLOATS:
        return 0, 0
    word, exponent, mantissa = _FLOATS[kind]
    kind_of_word = np.dtype(word)
    file.seek(start)
    nan = infinite = 0
    while start < end:
        block = file.read(min(_BLOCK, end - start))
        start += len(block)
        words = np.frombuffer(block, kind_of_word, len(block) // kind_of_word.itemsize)
        odd = words[(words & kind_of_word.type(exponent)) == exponent]
        endless = int(((odd & kind_of_word.type(mantissa)) == 0).sum()) if mantissa else 0
        nan, infinite = nan + len(odd) - endless, infinite + endless
        if not block:
            break
    return nan, infinite
