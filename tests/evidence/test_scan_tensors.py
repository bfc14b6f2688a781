"""Safetensors and ONNX files, sound and forged, as the scan sees them."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import Small
from safetensors.torch import save, save_file

from freehold.errors import ArtifactError
from freehold.evidence.scan import scan

FINE = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def packed(header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def looked(path, content, name="m.safetensors"):
    (path / name).write_bytes(content)
    return scan(path / name)


def test_a_saved_model_is_safe_and_counted(tmp_path):
    state = Small().state_dict()
    save_file(state, tmp_path / "m.safetensors", {"format": "pt", "by": "evil\x1b[2J\n"})
    found = scan(tmp_path / "m.safetensors")
    assert (found.verdict, found.format, found.findings) == ("SAFE", "safetensors", ())
    assert found.tensors == len(state) and found.numbers == sum(t.numel() for t in state.values())
    assert found.kinds == {"F32": len(state) - 2, "I64": 2} and (found.nan, found.infinite) == (0, 0)
    assert found.metadata["by"] == r"evil\x1b[2J\n"


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16", "float8_e5m2", "complex64"])
def test_values_that_are_no_numbers_are_counted_in_every_type(tmp_path, kind):
    values = torch.tensor([1.0, float("nan"), float("inf"), -float("inf"), 0.0, -2.5]).to(
        getattr(torch, kind)
    )
    found = looked(tmp_path, save({"odd": values, "even": torch.ones(3)}))
    assert (found.verdict, found.nan, found.infinite) == ("DOUBTFUL", 1, 2)
    assert [f.where for f in found.findings] == ["odd"]


FORGED = {
    "empty": b"",
    "short": b"\x08\0\0\0\0\0\0",
    "header beyond the file": packed(FINE, length=1 << 20),
    "header of 2^63 bytes": packed(FINE, length=1 << 63),
    "no object": packed(b"[1, 2]"),
    "truncated": packed(FINE, bytes(15)),
    "trailing": packed(FINE, bytes(17)),
    "not UTF-8": packed(b'{"\xff": 1}'),
    "nested": packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b""),
    "twice": packed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' * 1
                    + b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', bytes(2)),
    "overlap": packed({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                       "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}, bytes(6)),
    "hole": packed({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                    "b": {"dtype": "U8", "shape": [4], "data_offsets": [6, 10]}}, bytes(10)),
    "wrong size": packed({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}),
    "unknown type": packed({"a": {"dtype": "F31", "shape": [4], "data_offsets": [0, 16]}}),
    "negative": packed({"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}),
    "backwards": packed({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}),
    "fractions": packed({"a": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}}),
    "truths": packed({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, bytes(1)),
    "overflow": packed({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 16]}}),
    "huge number": packed(b'{"a":' + b"9" * 5000 + b"}"),
    "more keys": packed({"a": {**FINE["a"], "code": "x"}}),
    "metadata": packed({**FINE, "__metadata__": {"a": 1}}),
    "a pickle": b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.",
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_forged_safetensors_are_refused(tmp_path, how):
    with pytest.raises(ArtifactError, match="no safetensors file"):
        looked(tmp_path, FORGED[how])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_the_header_is_refused_or_read_as_safetensors_reads_it(tmp_path_factory, data):
    from safetensors import SafetensorError
    from safetensors.torch import load

    whole = bytearray(
        packed({**FINE, "b": {"dtype": "U8", "shape": [2], "data_offsets": [16, 18]}}, bytes(18))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 19))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("f")
    try:
        found = looked(path, bytes(whole))
    except ArtifactError:
        return
    try:
        state = load(bytes(whole))
    except (SafetensorError, KeyError, AttributeError, TypeError, ValueError) as error:  # pragma: no cover
        pytest.fail(f"accepted what the library refuses: {error}")
    assert found.tensors == len(state) and found.numbers == sum(t.numel() for t in state.values())


@pytest.fixture(scope="module")
def graph():
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    from onnx import helper as h

    def make(tensor=None, nodes=(), functions=(), domains=("",), **attributes):
        value = [h.make_tensor_value_info("x", 1, [2]), h.make_tensor_value_info("y", 1, [2])]
        tensor = tensor or onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
        nodes = [h.make_node("Add", ["x", "w"], ["y"]), *nodes]
        made = h.make_graph(nodes, "g", value[:1], value[1:], [tensor])
        opsets = [h.make_opsetid(domain, 20) for domain in domains]
        return h.make_model(made, opset_imports=opsets, functions=functions, **attributes)

    return make


def saved(path, model):
    return looked(path, model.SerializeToString(), "m.onnx")


def test_a_graph_is_safe_and_its_values_are_counted(graph, tmp_path):
    from onnx import TensorProto, helper, numpy_helper

    found = saved(tmp_path, graph(producer_name="me"))
    assert (found.verdict, found.tensors, found.numbers, found.operators) == ("SAFE", 1, 2, ("ai.onnx:Add",))
    assert found.metadata == {"producer": "me"}
    odd = numpy_helper.from_array(np.array([np.nan, np.inf], np.float32), "w")
    assert (saved(tmp_path, graph(odd)).nan, saved(tmp_path, graph(odd)).infinite) == (1, 1)
    listed = helper.make_tensor("w", TensorProto.FLOAT, [2], [float("nan"), 1.0])
    assert saved(tmp_path, graph(listed)).verdict == "DOUBTFUL"


def test_the_scan_sees_every_tensor_that_onnx_sees(graph, tmp_path):
    from onnx import helper as h
    from onnx import numpy_helper

    inner = h.make_graph([h.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3)))],
                         "inner", [], [h.make_tensor_value_info("c", 11, [3])])  # fmt: skip
    model = graph(nodes=[h.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)])
    found = saved(tmp_path, model)
    assert found.tensors == 3 and found.kinds == {"F32": 1, "F64": 2}
    assert found.operators == ("ai.onnx:Add", "ai.onnx:Constant", "ai.onnx:If")


def test_operators_of_others_are_doubtful_unless_the_model_defines_them(graph, tmp_path):
    from onnx import helper as h

    foreign = h.make_node("Run", ["x"], ["z"], domain="evil.ops")
    found = saved(tmp_path, graph(nodes=[foreign], domains=("", "evil.ops")))
    assert found.verdict == "DOUBTFUL" and "evil.ops" in found.findings[0].what
    python = h.make_node("PythonOp", ["x"], ["z"], domain="com.microsoft")
    assert saved(tmp_path, graph(nodes=[python])).verdict == "DOUBTFUL"
    known = h.make_node("QLinearAdd", ["x"], ["z"], domain="com.microsoft")
    assert saved(tmp_path, graph(nodes=[known])).verdict == "SAFE"
    own = h.make_function("evil.ops", "Run", ["a"], ["b"], [h.make_node("Relu", ["a"], ["b"])], [])
    assert saved(tmp_path, graph(nodes=[foreign], functions=[own])).verdict == "SAFE"
    hidden = h.make_function("mine", "F", ["a"], ["b"], [h.make_node("Run", ["a"], ["b"], domain="evil")], [])
    assert saved(tmp_path, graph(functions=[hidden])).verdict == "DOUBTFUL"


def external(location, count=2, **more):
    from onnx import TensorProto

    tensor = TensorProto(name="w", data_type=1, dims=[count], data_location=1)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def test_external_data_beside_the_model_is_looked_at(graph, tmp_path):
    (tmp_path / "w.bin").write_bytes(np.array([1, np.nan], np.float32).tobytes())
    assert saved(tmp_path, graph(external("w.bin"))).nan == 1
    with pytest.raises(ArtifactError, match="does not fit"):
        saved(tmp_path, graph(external("w.bin", 3)))
    found = saved(tmp_path, graph(external("gone.bin")))
    assert found.verdict == "DOUBTFUL" and found.tensors is None


@pytest.mark.parametrize(
    "location", ["../w", "/etc/passwd", "a/../../w", "", "C:\\w", "..\\w", "w\0", "link", "dir/w"]
)
def test_external_data_elsewhere_is_unsafe(graph, tmp_path, location):
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "dir").symlink_to("/etc")
    assert saved(tmp_path, graph(external(location))).verdict == "UNSAFE"


def test_forged_onnx_is_refused(graph, tmp_path):
    whole = graph().SerializeToString()
    from onnx import TensorProto

    for content in (b"", b"not a graph", whole[:-3], whole + whole, b"\x08\x0a", b"\x3a\xff\xff\xff\xff\x0f"):
        with pytest.raises(ArtifactError, match="no ONNX model"):
            looked(tmp_path, content, "m.onnx")
    for tensor in (
        TensorProto(name="w", data_type=1, dims=[3], raw_data=bytes(8)),
        TensorProto(name="w", data_type=1, dims=[-1], raw_data=bytes(8)),
        TensorProto(name="w", data_type=99, dims=[2], raw_data=bytes(8)),
        TensorProto(name="w", data_type=1, dims=[1] * 65, raw_data=bytes(4)),
        TensorProto(name="w", data_type=1, dims=[2]),
    ):
        with pytest.raises(ArtifactError, match="no ONNX model"):
            saved(tmp_path, graph(tensor))


def test_deep_graphs_endless_fields_and_unknown_ones(tmp_path, monkeypatch):
    def message(number, body):
        size, out = (
            len(body),
            bytearray([number << 3 & 0x7F | 0x80 | 2, number >> 4] if number > 15 else [number << 3 | 2]),
        )
        while size >= 0x80:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes(out) + bytes([size]) + body

    deep = b""
    for _ in range(40):
        deep = message(1, message(5, message(6, deep)))
    with pytest.raises(ArtifactError, match="nested"):
        looked(tmp_path, message(7, deep), "m.onnx")
    with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="more than 100 fields"):
        patch.setattr("freehold.evidence.scan.wire._MOST_FIELDS", 100)
        looked(tmp_path, b"\x08\x01" * 101, "m.onnx")
    found = looked(tmp_path, message(7, b"") + message(15, b"hidden"), "m.onnx")
    assert found.verdict == "DOUBTFUL" and "field 15" in found.findings[0].what


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bytes_are_refused_or_read(graph, tmp_path_factory, data):
    whole = bytearray(graph().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("f")
    with contextlib.suppress(ArtifactError):
        assert looked(path, bytes(whole), "m.onnx").verdict in ("SAFE", "DOUBTFUL", "UNSAFE")
