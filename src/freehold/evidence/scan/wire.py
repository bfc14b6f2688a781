"""Protocol buffers as they are on disk: fields of a message, read one after another, nothing kept.

An ONNX file of any size is walked through in constant memory, and no field is believed before its end is
known to lie inside the message that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from freehold.errors import ArtifactError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_BLOCK = 1 << 16
_MOST_FIELDS = 2_000_000  # of a file: some seconds; a model of 10,000 operators has a fifth
_LONGEST_TEXT = 1 << 16


class Field(NamedTuple):
    """One field: its number, wire type, value if it is a varint, and where its content lies."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class Wire:
    """A file of protocol buffers.

    Args:
        file: read at any place.
        size: of it, in bytes.
        where: its name in errors.
    """

    def __init__(self, file: BinaryIO, size: int, where: str) -> None:
        self.file, self.size, self.where = file, size, where
        self._block, self._base, self._left = b"", 0, _MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in bytes ``[start, end)``.

        Raises:
            ArtifactError: they are no message, or there are too many.
        """
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise self.broken(f"more than {_MOST_FIELDS} fields")
            tag, start = self._varint(start, end)
            number, kind = tag >> 3, tag & 7
            value = 0
            if kind == VARINT:
                first = start
                value, start = self._varint(start, end)
                content = first, start
            elif kind == BYTES:
                length, start = self._varint(start, end)
                content = start, start + length
            elif kind in _WIDTHS:
                content = start, start + _WIDTHS[kind]
            else:
                raise self.broken(f"a field of wire type {kind}")
            if not 1 <= number < 1 << 29 or content[1] > end:
                raise self.broken(f"a field at byte {start} that reaches beyond its message")
            yield Field(number, kind, value, *content)
            start = content[1]

    def text(self, field: Field) -> str:
        """A text field; bytes that are no UTF-8 are shown as escapes.

        Raises:
            ArtifactError: the field is no text, or one of more than 64 KiB.
        """
        if field.kind != BYTES or field.end - field.start > _LONGEST_TEXT:
            raise self.broken(f"field {field.number} at byte {field.start} is no text of at most 64 KiB")
        self.file.seek(field.start)
        return self.file.read(field.end - field.start).decode("utf-8", "backslashreplace")

    def whole_numbers(self, field: Field, most: int) -> list[int]:
        """A whole number, or several that are packed; 64 bits, two's complement.

        Raises:
            ArtifactError: the field is neither, or holds more than ``most``.
        """
        if field.kind == VARINT:
            return [_signed(field.value)]
        if field.kind != BYTES:
            raise self.broken(f"field {field.number} at byte {field.start} is no whole number")
        found, at = [], field.start
        while at < field.end:
            value, at = self._varint(at, field.end)
            found.append(_signed(value))
            if len(found) > most:
                raise self.broken(f"more than {most} numbers at byte {field.start}")
        return found

    def broken(self, what: str) -> ArtifactError:
        """The error that says the file is no ONNX model."""
        return ArtifactError(f"no ONNX model: {what}", where=self.where, fix="get hold of a whole copy")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._byte(at)
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (1 << 64) - 1, at
        raise self.broken(f"a number at byte {at} that does not end")

    def _byte(self, at: int) -> int:
        if not self._base <= at < self._base + len(self._block):
            self.file.seek(at)
            self._block, self._base = self.file.read(_BLOCK), at
            if not self._block:
                raise self.broken(f"it ends at byte {at}")
        return self._block[at - self._base]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
