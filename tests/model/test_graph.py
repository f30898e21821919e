"""The graph of a model file: which is refused, with which words."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from detector.model.artifact import METADATA_KEY, seal
from tests.model.models import SIGNALS, metadata, random_graph, signals_graph, with_canaries
from tests.model.refusing import refusal
from trainer.training.export import model_file


def _rename(kind: str, name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        old = getattr(model.graph, kind)[0].name
        getattr(model.graph, kind)[0].name = name
        for node in model.graph.node:
            names = node.input if kind == "input" else node.output
            names[:] = [name if each == old else each for each in names]

    return change


def _actions_type(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def _fixed_batch(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1


def _matrix_of_scores(model: Any) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "flat":
            tensor.CopyFrom(numpy_helper.from_array(np.array([-1, 1], np.int64), "flat"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_rename("input", "tokens"), r"inputs tokens tensor\(int32\).*expected actions"),
        (_rename("output", "risk_of"), r"outputs risk_of.*expected score"),
        (_actions_type, r"tensor\(int64\).*expected.*tensor\(int32\)"),
        (_fixed_batch, r"\[1, 10\].*expected.*\[n, 10\]"),
        (_matrix_of_scores, r"\[n, 1\].*expected score tensor\(float\)\[n\]"),
    ],
    ids=["input name", "output name", "input type", "fixed batch", "output shape"],
)
def test_inputs_and_outputs(path: Path, change: Callable[[Any], None], words: str) -> None:
    """A graph whose inputs or outputs have other names, types or shapes is refused, with both in the words."""
    graph = random_graph()
    told = with_canaries(graph, metadata())
    change(graph)
    assert re.search(words, refusal(path, model_file(graph, told)))


def test_a_graph_that_looks_ahead(path: Path) -> None:
    """A graph that tells each step the highest score of the whole window, as a network that reads both ways could, is refused."""
    graph = signals_graph()
    for node in graph.graph.node:
        node.output[:] = ["of_step" if one == "score" else one for one in node.output]
    graph.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["of_step"], ["highest"], axes=[1]),
            helper.make_node("Max", ["of_step", "highest"], ["score"]),
        ]
    )
    told = with_canaries(graph, metadata(signals=list(SIGNALS)))
    assert "change with its later actions" in refusal(path, model_file(graph, told))


def _endless() -> list[Any]:
    """Return a loop that goes on for as long as its condition says so, which is always."""
    condition = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["and_again"])],
        "body",
        [helper.make_tensor_value_info("round", TensorProto.INT64, []), condition],
        [helper.make_tensor_value_info("and_again", TensorProto.BOOL, [])],
    )
    true = numpy_helper.from_array(np.array(True))  # noqa: FBT003  a value
    return [
        helper.make_node("Constant", [], ["for_ever"], value=true),
        helper.make_node("Loop", ["", "for_ever"], [], body=body),
    ]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        (_endless(), "'Loop'"),
        ([helper.make_node("RandomNormal", [], ["noise"], shape=[1])], "'RandomNormal'"),
        ([helper.make_node("ConstantOfShape", ["flat"], ["zeros"])], "'ConstantOfShape'"),
        ([helper.make_node("Gemm", ["a", "b"], ["c"], domain="elsewhere")], "'elsewhere.Gemm'"),
        ([helper.make_node("Identity", ["score"], ["copy"], body=helper.make_graph([], "hidden", [], []))], "'Identity'"),
        ([helper.make_node("Identity", ["score"], [f"copy_{number}"]) for number in range(1_000)], "1,007 operators"),
    ],
    ids=["endless loop", "chance", "constants of nothing", "of elsewhere", "a graph in a node", "too many"],
)  # fmt: skip
def test_graphs_that_may_not_end(path: Path, nodes: list[Any], named: str) -> None:
    """A graph that loops for ever, or is larger than it looks, is refused before anything of it runs, by its operator's name."""
    graph = random_graph()
    told = with_canaries(graph, metadata())
    graph.graph.node.extend(nodes)
    assert named in refusal(path, model_file(graph, told))


def test_functions_and_sparse_tensors_in_a_graph(path: Path) -> None:
    """What could call itself, or be far larger than its file, is refused."""
    told = with_canaries(random_graph(), metadata())
    with_function, with_sparse = random_graph(), random_graph()
    with_function.functions.append(helper.make_function("own", "f", [], [], [], []))
    with_sparse.graph.sparse_initializer.add().dims.extend([10**6, 10**6])
    for graph in (with_function, with_sparse):
        assert "functions or sparse tensors" in refusal(path, model_file(graph, told))


@pytest.mark.parametrize("weight", [np.nan, np.inf, 1e38])
def test_weights_that_are_no_numbers(path: Path, weight: float) -> None:
    """A NaN, which compares as neither above nor below any threshold, does not pass the canaries."""
    graph = random_graph()
    told = with_canaries(graph, metadata())
    for tensor in graph.graph.initializer:
        if tensor.name == "risk_weights":
            values = numpy_helper.to_array(tensor).copy()
            values[:2] = [[weight], [-weight]]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert "canary" in refusal(path, model_file(graph, told))


@pytest.mark.parametrize("swapped", [False, True], ids=["as written", "fields in another order"])
def test_weights_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, swapped: bool) -> None:
    """A model that keeps tensors outside is refused though the other file is there, however its protobuf is laid out."""
    graph = random_graph()
    told = with_canaries(graph, metadata())
    convert_model_to_external_data(
        graph, location="weights.bin", size_threshold=1_000, convert_attribute=False
    )
    graph.metadata_props.append(
        onnx.StringStringEntryProto(key=METADATA_KEY, value=msgspec.json.encode(told).decode())
    )
    path = tmp_path / "model.onnx"
    onnx.save_model(graph, path)
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look
    data, key, value = path.read_bytes(), b"\x0a\x08location", b"\x12\x0bweights.bin"
    assert key + value in data
    if swapped:
        data = data.replace(key + value, value + key)
    assert (tmp_path / "weights.bin").stat().st_size > 80_000
    assert re.search(r"External data|/dev/null/weights\.bin", refusal(path, seal(data)))  # before 1.25
