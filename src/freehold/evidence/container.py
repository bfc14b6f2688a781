"""The file that a bundle is: a ZIP archive of one form only, so that nothing in it can hide or change.

Entries are stored, not compressed: nothing inflates. Their names come from a fixed list, in its order:
no path leads anywhere, no name stands twice, nothing is a link. Every other field has one value. Reading
takes the entries one after the other and then compares with how they would be written, byte by byte.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from freehold.errors import ArtifactError, MissingInputError, OutputError

LARGEST = 64 << 20  # bytes of an archive
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_NEEDS, _MADE_BY = 20, 0x0314  # version 2.0, made on a Unix system
_DAY = 0x21  # the first of January 1980
_MODE = 0o100600 << 16  # a plain file that only its owner reads

Data = bytes | memoryview


def packed(files: Mapping[str, Data]) -> Iterator[Data]:
    """The archive of ``files``, in their order, piece by piece; names are ASCII."""
    directory, offset = [], 0
    for name, data in files.items():
        title, check = name.encode("ascii"), zlib.crc32(data)
        about = (_NEEDS, 0, 0, 0, _DAY, check, len(data), len(data), len(title))
        head = _LOCAL.pack(b"PK\3\4", *about, 0) + title
        directory.append(_CENTRAL.pack(b"PK\1\2", _MADE_BY, *about, 0, 0, 0, 0, _MODE, offset) + title)
        offset += len(head) + len(data)
        yield head
        yield data
    entries = b"".join(directory)
    yield entries
    yield _END.pack(b"PK\5\6", 0, 0, len(directory), len(directory), len(entries), offset, 0)


def unpacked(archive: bytes, names: Sequence[str], *, where: str) -> dict[str, memoryview]:
    """The files in an archive that :func:`packed` made.

    Args:
        archive: all of it.
        names: that may occur, in their order.
        where: what errors call it.

    Raises:
        ArtifactError: of any other form: another name or order, compressed, packed by another program, cut
            off, altered by so much as one bit.
    """
    view, offset, files, left = memoryview(archive), 0, {}, list(names)
    while bytes(view[offset : offset + 4]) == b"PK\3\4" and len(view) - offset >= _LOCAL.size:
        size, length, extra = _LOCAL.unpack_from(view, offset)[8:]
        start = offset + _LOCAL.size
        try:
            name = bytes(view[start : start + length]).decode("ascii")
        except UnicodeDecodeError:
            name = ""
        if name not in left or extra:
            raise ArtifactError(
                f"holds {name[:60]!r}, which has no place there",
                where=where,
                fix="use the bundle as it was made; archives packed by other programs are refused",
            )
        left = left[left.index(name) + 1 :]
        files[name] = view[start + length : start + length + size]
        offset = start + length + size
    position = 0
    for piece in packed(files):
        if view[position : position + len(piece)] != piece:
            break
        position += len(piece)
    else:
        if position == len(view):
            return files
    raise ArtifactError("was altered or cut off, or packed again", where=where, fix="copy it again")


def read_archive(path: Path) -> bytes:
    """The content of an archive file, if it is not too large.

    Raises:
        MissingInputError: it cannot be read.
        ArtifactError: too large.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) > LARGEST:
                raise ArtifactError(f"has more than {LARGEST >> 20} MiB", where=str(path))
            file.seek(0)
            return file.read(LARGEST)
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def archive_of(files: Mapping[str, Data], *, where: str) -> bytes:
    """As :func:`packed`, in one piece.

    Raises:
        OutputError: larger than what is read again.
    """
    whole = b"".join(packed(files))
    if len(whole) > LARGEST:
        raise OutputError(f"would have more than {LARGEST >> 20} MiB", where=where)
    return whole
