"""A pickle: its instructions are listed, never carried out, and held against a list of what tensors need.

What is not on the list counts as unsafe, since lists of known dangers have been got round again and again.
"""

from __future__ import annotations

import io
import pickletools

from freehold.errors import ArtifactError
from freehold.evidence.scan.report import Notes, printable, words

LARGEST = 8 << 20  # bytes of instructions; those of a model of 10,000 tensors take one or two
_MOST_STEPS = 1_000_000

_STORAGES = words("Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble")
_DTYPES = words(
    "float64 float32 float16 bfloat16 complex64 complex128 int64 int32 int16 int8 uint64 uint32 uint16 uint8 "
    "bool float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
)
# What torch.save writes for tensors, and what torch's own restricted reader accepts of it.
ALLOWED = frozenset(
    [
        "collections OrderedDict",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_qtensor",
        "torch._utils _rebuild_sparse_tensor",
        "torch.nn.parameter Parameter",
        "torch.storage TypedStorage",
        "torch.storage UntypedStorage",
        "torch.serialization _get_layout",
        "torch Size",
        "torch Tensor",
        "torch device",
        "_codecs encode",
        *(f"torch {name}Storage" for name in _STORAGES),
        *(f"torch {name}" for name in _DTYPES),
    ]
)
_STEPS = words(
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 "
    "LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET GET BINGET LONG_BINGET "
    "PUT BINPUT LONG_BINPUT MEMOIZE BINPERSID GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ"
)
_TEXTS = words("UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 STRING BINSTRING SHORT_BINSTRING")
_KEEPS = words("PUT BINPUT LONG_BINPUT MEMOIZE")
_FETCHES = words("GET BINGET LONG_BINGET")
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file that torch wrote before it used archives
_MARK = object()


def scan_pickle(data: bytes, where: str, notes: Notes, *, whole: bool = True) -> str:
    """List the instructions of the pickle, or of the pickles one after another, in ``data``.

    Args:
        data: the instructions; at most the first ``LARGEST`` bytes of the file.
        where: what findings call it.
        notes: takes findings and names.
        whole: False if the file goes on where ``data`` ends.

    Returns:
        The format: ``pickle``, or ``legacy torch file``.

    Raises:
        ArtifactError: it is no pickle.
    """
    if not data:
        raise ArtifactError("no pickle: it is empty", where=where, fix="get hold of a whole copy")
    stream, kind, number, wanted = io.BytesIO(data), "pickle", 0, 1
    while number < wanted and stream.tell() < len(data):
        begin = stream.tell()
        try:
            first = _listed(stream, where, notes)
        except (ValueError, OverflowError, LookupError, ArtifactError) as error:
            # A reader carries out instructions as they come, so what was found before the fault counts.
            if number == 0 and whole and notes.verdict != "UNSAFE":
                reason = error.what if isinstance(error, ArtifactError) else printable(str(error))
                raise ArtifactError(
                    f"no pickle: {reason}", where=where, fix="get hold of a whole copy"
                ) from None
            notes.add("doubt", where, f"what follows byte {begin} is no pickle, or goes on too long")
            return kind
        number += 1
        if number == 1 and first == _MAGIC:
            kind, wanted = "legacy torch file", 5  # magic, version, machine, object, names of the storages
        elif kind == "pickle" and stream.tell() < len(data):
            wanted = number + 1
            if number > 1000:
                raise ArtifactError("more than 1000 pickles in one file", where=where)
    return kind


def _listed(stream: io.BytesIO, where: str, notes: Notes) -> object:
    """Go through one pickle with a stack that knows texts only; returns the value of its first number."""
    stack: list[object] = []
    memo: dict[int, object] = {}
    first, stored = None, 0
    for step, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        name, at = opcode.name, f"{where} at byte {position}"
        if step > _MOST_STEPS:
            raise ArtifactError(f"more than {_MOST_STEPS} instructions", where=where)
        if name not in _STEPS:
            notes.add("danger", at, f"the instruction {name}, which no file of tensors needs")
        if name in ("LONG1", "LONG4", "LONG") and first is None:
            first = argument
        if name in ("GLOBAL", "INST"):
            _named(*str(argument).partition(" ")[::2], at, notes)
        elif name == "STACK_GLOBAL":
            module, attribute = [*([None] * 2), *stack][-2:]
            if isinstance(module, str) and isinstance(attribute, str):
                _named(module, attribute, at, notes)
            else:
                notes.add("danger", at, "asks for a name that is not in plain sight")
        if name in _KEEPS:
            place = stored if name == "MEMOIZE" else int(str(argument))
            stored += 1
            if stack and isinstance(stack[-1], str):
                memo[place] = stack[-1]
            else:
                memo.pop(place, None)
            continue
        _step(name, opcode, argument, stack, memo)
    return first


def _step(
    name: str, opcode: pickletools.OpcodeInfo, argument: object, stack: list[object], memo: dict[int, object]
) -> None:
    """What the instruction does to the stack."""
    if name == "POP" and stack:
        stack.pop()
        return
    if name == "DUP":
        stack.append(stack[-1] if stack else None)
        return
    if pickletools.stackslice in opcode.stack_before or name == "POP_MARK":
        while stack and stack.pop() is not _MARK:
            pass
        below = opcode.stack_before.index(pickletools.markobject)
        del stack[max(0, len(stack) - below) :]
    elif opcode.stack_before:
        del stack[-len(opcode.stack_before) :]
    if name == "MARK":
        stack.append(_MARK)
    elif name in _TEXTS:
        stack.append(argument)
    elif name in _FETCHES:
        stack.append(memo.get(int(str(argument))))
    else:
        stack += [None] * len(opcode.stack_after)


def _named(module: str, attribute: str, at: str, notes: Notes) -> None:
    shown = f"{printable(module)}.{printable(attribute)}"
    if len(notes.globals) < 1000:
        notes.globals.add(shown)
    if f"{module} {attribute}" not in ALLOWED:
        notes.add("danger", at, f"asks for {shown}, which is more than tensors need")
