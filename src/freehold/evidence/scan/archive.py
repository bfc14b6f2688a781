"""A zip file as torch writes it: every pickle in it is listed, and what else is in it has a known place."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from freehold.errors import ArtifactError
from freehold.evidence.scan.pickles import LARGEST, scan_pickle
from freehold.evidence.scan.report import Notes, printable

_END, _END64, _LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_LARGEST_INDEX = 16 << 20  # bytes; that of a model of 10,000 tensors takes one
_MOST_ENTRIES = 100_000
_KNOWN = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment)"
)


def scan_archive(file: BinaryIO, size: int, where: str, notes: Notes) -> None:
    """Look at every entry, unpack none but the pickles.

    Raises:
        ArtifactError: it is no whole archive, or its index is larger than any model's.
    """
    _index_is_small(file, size, where)
    try:
        with zipfile.ZipFile(file) as archive:
            seen: set[str] = set()
            for entry in archive.infolist():
                _look(archive, entry, where, notes, again=entry.filename in seen)
                seen.add(entry.filename)
            if not any(name.endswith("/data.pkl") for name in seen):
                raise _broken("it holds no data.pkl", where)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError) as error:
        raise _broken(printable(str(error)) or type(error).__name__, where) from None
    except RuntimeError as error:  # zipfile's word for encrypted entries
        raise _broken(printable(str(error)), where) from None


def _look(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str, notes: Notes, *, again: bool) -> None:
    name, path = entry.orig_filename, PurePosixPath(entry.filename)
    if again:
        notes.add("danger", name, "is in the archive twice; readers differ in which one they take")
    if "\0" in name or "\\" in name or ":" in name or path.is_absolute() or ".." in path.parts:
        notes.add("danger", name, "would be unpacked outside its folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        notes.add("danger", name, "is a link")
    if entry.flag_bits & 1:
        raise _broken(f"{printable(name)} is encrypted", where)
    if entry.compress_type != zipfile.ZIP_STORED:
        notes.add("danger", name, "is compressed, which torch never does: it may unpack to any size")
    elif entry.file_size != entry.compress_size:
        raise _broken(f"{printable(name)} says two sizes", where)
    if "code" in path.parts[:-1] or path.name.endswith((".py", ".so")):
        notes.add("danger", name, "is program code")
    elif path.name.endswith(".pkl") and entry.compress_type == zipfile.ZIP_STORED:
        with archive.open(entry) as inside:
            data = inside.read(LARGEST + 1)
        scan_pickle(data[:LARGEST], f"{where}: {name}", notes, whole=len(data) <= LARGEST)
    if not _KNOWN.fullmatch(entry.filename) and not name.endswith("/"):
        notes.add("doubt", name, "has no place in a file of tensors")


def _index_is_small(file: BinaryIO, size: int, where: str) -> None:
    """The index would be read whole: it must be small, whatever the file says of it."""
    tail = min(size, 22 + 65535)
    file.seek(size - tail)
    end = file.read(tail)
    at = end.rfind(_END)
    if at < 0 or len(end) - at < 22:
        raise _broken("it has no end", where)
    entries, length = int.from_bytes(end[at + 10 : at + 12], "little"), _number(end, at + 12, 4)
    if end[max(0, at - 20) :].startswith(_LOCATOR64):
        file.seek(min(_number(end, at - 12, 8), size))
        large = file.read(56)
        if not large.startswith(_END64) or len(large) < 56:
            raise _broken("its index is not where it says", where)
        entries, length = max(entries % 0xFFFF, _number(large, 32, 8)), _number(large, 40, 8)
    if length > _LARGEST_INDEX or entries > _MOST_ENTRIES:
        raise _broken(f"an index of {entries} entries and {length} bytes", where)


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


def _broken(what: str, where: str) -> ArtifactError:
    return ArtifactError(f"no archive of torch: {what}", where=where, fix="get hold of a whole copy")
