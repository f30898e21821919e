"""The graph of a model file, looked at before onnxruntime runs anything of it: it must come to an end.

A graph without control flow is computed once through. One with it may go round for ever, at the start and at each
window; and constants made out of nothing may be larger than any machine. Read with onnxruntime's own format library,
and by its descriptors of the few fields that count (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

MAX_NODES: Final = 1_000
"""Ten times those of a model with 30 signals."""
_OF_ELEMENTS: Final = """
    Abs Add And Cast Ceil Clip Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN
    LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Softplus
    Softsign Sqrt Sub Sum Tanh Where Xor
"""
_ALONG_AN_AXIS: Final = """
    ArgMax ArgMin CumSum Hardmax LogSoftmax ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare ReverseSequence Softmax TopK
"""
_OF_SHAPES: Final = """
    Concat Constant Flatten Gather GatherElements GatherND Pad Reshape Shape Size Slice Split Squeeze Transpose Unsqueeze
"""
_LAYERS: Final = """
    BatchNormalization GRU Gemm GlobalAveragePool GlobalMaxPool InstanceNormalization LSTM LayerNormalization MatMul RNN
"""
OPERATORS: Final = frozenset(f"{_OF_ELEMENTS} {_ALONG_AN_AXIS} {_OF_SHAPES} {_LAYERS}".split())
"""What a graph may compute with: of operators of ONNX those that give the same each time, as much as what goes in."""


class RefusedGraphError(ValueError):
    """The graph may not come to an end, or is none. The message says what was seen and expected."""


def check_graph(model: bytes) -> None:
    """Check that a model's graph comes to an end.

    Args:
        model: an ONNX file's bytes.

    Raises:
        RefusedGraphError: it has operators that are not among OPERATORS, or too many, subgraphs, functions or sparse tensors.
    """
    try:
        read = _Model.FromString(model)
    except DecodeError as error:
        raise RefusedGraphError(f"it is no ONNX model ({error}): expected one") from error
    if read.functions or read.graph.sparse_initializer:
        raise RefusedGraphError(
            "its graph has functions or sparse tensors: expected operators of ONNX and plain tensors alone"
        )
    nodes = read.graph.node
    if not 0 < len(nodes) <= MAX_NODES:
        raise RefusedGraphError(f"its graph has {len(nodes):,} operators: expected 1 to {MAX_NODES:,}")
    for node in nodes:
        name = f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
        if name not in OPERATORS or any(
            one.ListFields() for one in node.attribute
        ):  # a subgraph, a sparse tensor
            raise RefusedGraphError(
                f"its graph has the operator {name[:64]!r}: expected such as end and give the same each time, without loops, "
                "branches, chance and constants made of nothing; see 'The model file' in docs/model.md"
            )


def _described(fields: Iterable[tuple[str, str, int, str]]) -> Any:
    """Return the class of the model's messages: each field with its message, name, number, and type or own message."""
    file = FileDescriptorProto(name="onnx.proto", package="onnx", syntax="proto2")
    messages: dict[str, Any] = {}
    for message, name, number, of in fields:
        if message not in messages:
            messages[message] = file.message_type.add(name=message)
        one = FieldDescriptorProto(name=name.rstrip("*"), number=number)
        one.label = (
            FieldDescriptorProto.LABEL_REPEATED if name.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
        )
        one.type = FieldDescriptorProto.TYPE_MESSAGE if of else FieldDescriptorProto.TYPE_STRING
        if of:
            one.type_name = f".onnx.{of}"
        messages[message].field.append(one)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("onnx.Model"))


_Model: Final = _described(
    (
        ("Model", "graph", 7, "Graph"),
        ("Model", "functions*", 25, "Opaque"),
        ("Graph", "node*", 1, "Node"),
        ("Node", "op_type", 4, ""),
        ("Node", "attribute*", 5, "Attribute"),
        ("Node", "domain", 7, ""),
        ("Attribute", "g", 6, "Graph"),
        ("Attribute", "graphs*", 11, "Graph"),
        ("Attribute", "sparse_tensor", 22, "Opaque"),
        ("Attribute", "sparse_tensors*", 23, "Opaque"),
        ("Graph", "sparse_initializer*", 15, "Opaque"),
        ("Opaque", "unread", 536_870_911, ""),
    )
)
