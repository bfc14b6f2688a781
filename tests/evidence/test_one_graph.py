"""An ONNX file whose names and order do not tell its parts, and what that does not stop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kit import Small

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra [onnx] is not installed")

from onnx import TensorProto, helper  # noqa: E402

from freehold.data import InputSpec  # noqa: E402
from freehold.evidence.one_graph import into_one  # noqa: E402
from freehold.evidence.onnx_export import write_onnx  # noqa: E402
from freehold.models.fusion import Branch, Fused, margin  # noqa: E402
from freehold.seeds import generator, global_draws  # noqa: E402

SPEC = InputSpec(size=32)
IMAGES = torch.randn(40, 3, 32, 32, generator=generator(0, "images"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A fused model that opens for half of the images, as it is exported and in one graph."""
    folder = tmp_path_factory.mktemp("onnx")
    with global_draws(3, "branch"):
        model = Fused(Small(), Branch(10, pool=2)).eval()
    with torch.no_grad():
        model.branch.head.bias[-1] += margin(model.branch(IMAGES)).quantile(0.5)
    for name, one in (("plain", False), ("one", True), ("again", True)):
        assert write_onnx(model, SPEC, folder / name, one_graph=one) <= 1e-4
    return model, {name: (folder / name).read_bytes() for name in ("plain", "one", "again")}


def answers(proto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})[0]


def places(written: bytes, model: Fused) -> list[int]:
    """Where the operations stand that read a weight of the branch."""
    own = {tuple(p.shape) for p in model.branch.parameters() if p.dim() > 1}
    graph = onnx.load_from_string(written).graph
    names = {weight.name for weight in graph.initializer if tuple(weight.dims) in own}
    return [i for i, node in enumerate(graph.node) if names & set(node.input)]


def test_answers_keep_their_bits_and_the_same_model_becomes_the_same_file(files):
    _, written = files
    assert written["one"] == written["again"] != written["plain"]
    onnx.checker.check_model(onnx.load_from_string(written["one"]), full_check=True)
    assert np.array_equal(answers(written["one"]), answers(written["plain"]))


def test_no_name_tells_a_part(files):
    _, written = files
    assert b"branch.layers.0.weight" in written["plain"] and b"target." in written["plain"]
    graph = onnx.load_from_string(written["one"]).graph
    names = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    names |= {weight.name for weight in graph.initializer}
    assert all(name[0] in "vn" and name[1:].isdigit() for name in names - {"images", "logits", ""})
    assert not graph.value_info


def test_the_order_does_not_tell_either(files):
    model, written = files
    plain, one = (places(written[name], model) for name in ("plain", "one"))
    assert len(plain) == len(one) == 4
    assert one[-1] - one[0] > plain[-1] - plain[0]


def test_whoever_follows_the_edges_still_cuts_the_branch_off(files):
    model, written = files
    proto = onnx.load_from_string(written["one"])
    (last,) = (node for node in proto.graph.node if "logits" in node.output)
    assert last.op_type == "Where"
    proto.graph.output[0].name = last.input[2]
    with torch.no_grad():
        np.testing.assert_allclose(answers(proto), model.target(IMAGES).numpy(), atol=1e-4, rtol=1e-4)


def test_graphs_inside_of_operations_keep_what_they_read_from_outside():
    def branch(name: str, kind: str):
        node = helper.make_node(kind, ["seen", "weight"], [name], name=f"{name}_node")
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [value])

    shape, either = ["n", 3, 32, 32], {"then_branch": branch("t", "Add"), "else_branch": branch("e", "Mul")}
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["above"]),
        helper.make_node("Relu", ["images"], ["seen"]),
        helper.make_node("If", ["above"], ["found"], **either),
        helper.make_node("Neg", ["found"], ["logits"]),
    ]  # fmt: skip
    weights = [helper.make_tensor(name, TensorProto.FLOAT, [], [2.0]) for name in ("weight", "limit")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "logits")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    before = answers(proto)
    into_one(proto.graph)
    onnx.checker.check_model(proto)
    assert np.array_equal(answers(proto), before)
    assert b"weight" not in proto.SerializeToString()
