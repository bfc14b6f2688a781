"""An ONNX file: its tensors, where their bytes lie, and the operators it asks for.

Field numbers are those of the format's ``onnx.proto``. The file is never handed to a library that would
follow the paths in it.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from freehold.errors import ArtifactError
from freehold.evidence.scan.elements import BITS, bytes_of, count_odd
from freehold.evidence.scan.report import Notes, printable, words
from freehold.evidence.scan.wire import BYTES, FIXED32, FIXED64, Field, Wire

_NAMES = (
    "F32 U8 I8 U16 I16 I32 I64 STRING BOOL F16 F64 U32 U64 C64 C128 BF16 "
    "F8_E4M3 F8_E4M3FNUZ F8_E5M2 F8_E5M2FNUZ U4 I4 F4 F8_E8M0"
)
_TYPES = dict(enumerate(_NAMES.split(), 1))
_MOST_AXES, _DEEPEST, _MOST_KINDS = 64, 32, 2000
_PLAIN = ("", "ai.onnx", "ai.onnx.ml")
# ONNX Runtime's own operators that compute on tensors; others of its domain run Python or load libraries.
_RUNTIME = words(
    "Attention BiasGelu BiasSoftmax BiasSplitGelu ComplexMul ConvTransposeWithDynamicPads "
    "DecoderMaskedMultiHeadAttention DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul "
    "EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul Gelu GroupNorm GroupQueryAttention "
    "MatMulIntegerToFloat MatMulNBits MultiHeadAttention NhwcFusedConv NhwcMaxPool QAttention "
    "QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv "
    "QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax "
    "QLinearWhere QOrderedMatMul QuantizeLinear QuickGelu ReduceSumInteger RotaryEmbedding "
    "SimplifiedLayerNormalization SkipGroupNorm SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization"
)


def scan_onnx(file: BinaryIO, size: int, path: Path, notes: Notes) -> None:
    """Walk through the model; ``path`` says where external tensors may lie: beside it.

    Raises:
        ArtifactError: it is no ONNX model, or a tensor's bytes do not fit its shape.
    """
    _Model(Wire(file, size, str(path)), path.parent, notes).read()


class _Model:
    def __init__(self, wire: Wire, folder: Path, notes: Notes) -> None:
        self.wire, self.folder, self.notes = wire, folder, notes
        self.graphs = 0
        self.own: set[tuple[str, str]] = set()  # operators that the model defines itself
        self.used: set[tuple[str, str]] = set()

    def read(self) -> None:
        self._message(
            (0, self.wire.size),
            {7: self._main, 20: self._training, 25: self._function, 14: self._metadata, 2: self._producer},
            known=(1, 3, 4, 5, 6, 8, 26),
        )
        if self.graphs != 1:
            raise self.wire.broken(f"{self.graphs} graphs where there is one")
        for domain, operator in sorted(self.used):
            self.notes.operators.add(f"{printable(domain) or 'ai.onnx'}:{printable(operator)}")
            allowed = domain in _PLAIN or (domain == "com.microsoft" and operator in _RUNTIME)
            if not allowed and (domain, operator) not in self.own:
                what = f"needs code from outside: the domain {printable(domain)} is not part of ONNX"
                self.notes.add("doubt", operator, what)

    def _message(
        self,
        span: tuple[int, int],
        readers: Mapping[int, Callable[[Field], None]],
        known: tuple[int, ...] = (),
    ) -> None:
        """Hand every field to its reader; those in ``known`` are of no concern."""
        for field in self.wire.fields(*span):
            if field.number in readers:
                if field.kind != BYTES:
                    raise self.wire.broken(f"field {field.number} at byte {field.start} is of a wrong kind")
                readers[field.number](field)
            elif field.number not in known:
                at = f"byte {field.start}"
                self.notes.add("doubt", at, f"field {field.number}, which this version does not know")

    def _main(self, field: Field) -> None:
        self.graphs += 1
        self._graph(field, 0)

    def _graph(self, field: Field, depth: int) -> None:
        if depth > _DEEPEST:
            raise self.wire.broken(f"graphs nested more than {_DEEPEST} deep")
        readers = {
            1: lambda node: self._node(node, depth),
            5: self._tensor,
            15: self._sparse,
            16: self._metadata,
        }
        self._message((field.start, field.end), readers, known=(2, 10, 11, 12, 13, 14))

    def _node(self, field: Field, depth: int) -> None:
        said = {4: "", 7: ""}

        def keep(text: Field) -> None:
            said[text.number] = self.wire.text(text)

        def attribute(part: Field) -> None:
            readers = {
                5: self._tensor,
                10: self._tensor,
                6: lambda graph: self._graph(graph, depth + 1),
                11: lambda graph: self._graph(graph, depth + 1),
                22: self._sparse,
                23: self._sparse,
            }
            others = (1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21)
            self._message((part.start, part.end), readers, known=others)

        self._message(
            (field.start, field.end), {4: keep, 7: keep, 5: attribute}, known=(1, 2, 3, 6, 8, 9, 10)
        )
        self.used.add((said[7], said[4]))
        if len(self.used) > _MOST_KINDS:
            raise self.wire.broken(f"more than {_MOST_KINDS} kinds of operators")

    def _function(self, field: Field) -> None:
        said = {1: "", 10: ""}

        def keep(text: Field) -> None:
            said[text.number] = self.wire.text(text)

        readers = {1: keep, 10: keep, 7: lambda node: self._node(node, 0)}
        self._message((field.start, field.end), readers, known=(4, 5, 6, 8, 9, 11, 12, 13, 14))
        self.own.add((said[10], said[1]))

    def _training(self, field: Field) -> None:
        self.notes.add("doubt", "", "holds a training graph, which was not looked at")

    def _producer(self, field: Field) -> None:
        self.notes.about([("producer", self.wire.text(field))])

    def _metadata(self, field: Field) -> None:
        self.notes.about([self._pair(field)])

    def _pair(self, field: Field) -> tuple[str, str]:
        said = {1: "", 2: ""}
        for part in self.wire.fields(field.start, field.end):
            if part.number in said:
                said[part.number] = self.wire.text(part)
        return said[1], said[2]

    def _sparse(self, field: Field) -> None:
        self._message((field.start, field.end), {1: self._tensor, 2: self._tensor}, known=(3,))

    def _tensor(self, field: Field) -> None:
        """Type, shape and bytes of one tensor must fit together."""
        name, code, shape, stored, outside = "", 0, list[int](), 0, dict[str, str]()
        elsewhere, held = False, list[Field]()
        for part in self.wire.fields(field.start, field.end):
            if part.number == 1:
                shape += self.wire.whole_numbers(part, _MOST_AXES)
            elif part.number == 2:
                code = part.value
            elif part.number == 8:
                name = self.wire.text(part)
            elif part.number == 13:
                key, value = self._pair(part)
                outside[key] = value
            elif part.number == 14:
                elsewhere = part.value != 0
            elif part.number in (4, 5, 6, 7, 9, 10, 11):
                held.append(part) if part.kind != 0 and part.number in (4, 9, 10) else None
                stored += 1
            elif part.number not in (3, 12, 16):
                self.notes.add("doubt", name, f"field {part.number} in a tensor, which is unknown here")
        kind, shown = _TYPES.get(code, ""), f"tensor {printable(name)}"
        if not kind or len(shape) > _MOST_AXES or any(axis < 0 for axis in shape):
            raise self.wire.broken(f"{shown} has no possible type or shape")
        numbers = math.prod(shape)
        if elsewhere or outside:
            self._outside(name, kind, numbers, outside)
            return
        if kind == "STRING":
            self.notes.tensor(name, kind, numbers, (0, 0))
            return
        odd = [0, 0]
        for part in held:
            if part.number == 9 and (len(held) > 1 or part.end - part.start != bytes_of(kind, numbers)):
                taken = part.end - part.start
                raise self.wire.broken(f"{shown} takes {taken} bytes for {numbers} elements of {kind}")
            as_kind = {4: "F32", 10: "F64"}.get(part.number, kind)
            if part.kind not in (BYTES, {4: FIXED32, 10: FIXED64}.get(part.number)):
                raise self.wire.broken(f"{shown} holds values of a wrong kind")
            found = count_odd(self.wire.file, part.start, part.end, as_kind)
            odd = [odd[0] + found[0], odd[1] + found[1]]
        if not stored and numbers:
            raise self.wire.broken(f"{shown} has {numbers} elements and no bytes")
        self.notes.tensor(name, kind, numbers, (odd[0], odd[1]))

    def _outside(self, name: str, kind: str, numbers: int, told: Mapping[str, str]) -> None:
        """A tensor whose bytes lie in another file, which must lie beside this one."""
        location = told.get("location", "")
        parts = Path(location).parts
        if (
            not location
            or "\0" in location
            or "\\" in location
            or ":" in location
            or Path(location).is_absolute()
            or ".." in parts
        ):
            what = f"its bytes are to be read from {printable(location)!r}, outside the model's folder"
            self.notes.add("danger", name, what)
            self.notes.counted = False
            return
        path = self.folder
        try:
            for part in parts:
                path = path / part
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    what = f"its bytes are to be read through the link {printable(location)!r}"
                    self.notes.add("danger", name, what)
                    self.notes.counted = False
                    return
            if not stat.S_ISREG(mode) or kind not in BITS:
                raise OSError
            offset, length = int(told.get("offset", "0")), int(told.get("length", "-1"))
            length = bytes_of(kind, numbers) if length < 0 else length
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if offset < 0 or length != bytes_of(kind, numbers) or offset + length > size:
                    raise ValueError
                self.notes.tensor(name, kind, numbers, count_odd(file, offset, offset + length, kind))
        except OSError:
            self.notes.add("doubt", name, f"its bytes are in {printable(location)!r}, which is not there")
            self.notes.counted = False
        except ValueError:
            raise ArtifactError(
                f"no ONNX model: tensor {printable(name)} does not fit {printable(location)!r}",
                where=self.wire.where,
                fix="get hold of a whole copy",
            ) from None
