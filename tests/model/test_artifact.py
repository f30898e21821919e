"""Loading a model file: what is taken, and what is refused with which words."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from detector.core.encoding import STEP_BYTES
from detector.core.evidence import Evidence
from detector.core.signals import MAX_SIGNALS, Kind, Signal
from detector.model.artifact import (
    CANARY_TOLERANCE,
    MAX_MODEL_BYTES,
    METADATA_KEY,
    Model,
    ModelRefusedError,
    default_model_path,
    load_model,
    packaged_model_path,
    seal,
)
from detector.model.metadata import Canary
from tests.model.models import (
    SIGNALS,
    VOCABULARY,
    gap_graph,
    metadata,
    random_file,
    random_graph,
    signals_graph,
    with_canaries,
)
from trainer.training.export import model_file

PACKAGED = packaged_model_path("seed").read_bytes()
SMALL = random_file()
MANY = tuple(Signal(name=str(n), kind=Kind.MAGNITUDE, of="amount", bounds=(n,)) for n in range(MAX_SIGNALS))
SEAL_BYTES = len(seal(b""))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write models to, one after the other."""
    return tmp_path_factory.mktemp("models") / "model.onnx"


def _load(path: Path, data: bytes) -> Model:
    path.write_bytes(data)
    return load_model(path)


def _refusal(path: Path, data: bytes) -> str:
    with pytest.raises(ModelRefusedError) as caught:
        _load(path, data)
    message = str(caught.value)
    assert str(path) in message
    assert "expected" in message
    return message


def test_what_was_exported_is_what_is_loaded(path: Path) -> None:
    """A loaded model has the file's metadata, its hash, and an encoding and a reference made of them."""
    graph = random_graph()
    told = with_canaries(graph, metadata(name="n", version="7", threshold=0.25))
    data = model_file(graph, told)
    model = _load(path, data)
    assert model.metadata == told
    assert model.sha256 == hashlib.sha256(data).hexdigest()
    assert model.threshold == 0.25
    assert (model.reference.name, model.reference.version, model.reference.sha256) == ("n", "7", model.sha256)
    assert list(model.encoding.vocabulary) == told.vocabulary
    assert model.encoding.window == told.window


def test_a_model_with_gaps_is_loaded(path: Path) -> None:
    """A graph that reads gaps is taken when its metadata has as many buckets, and its canaries carry times."""
    graph = gap_graph()
    told = with_canaries(graph, metadata(vocabulary=["A", "B"], gap_bounds_ms=[1_000, 60_000]), [0, 5_000])
    model = _load(path, model_file(graph, told))
    assert model.encoding.gap_bounds_ms == (1_000, 60_000)
    slow = model.encoding.windows([model.encoding.steps(["A", "B"], [0, 90_000])])
    fast = model.encoding.windows([model.encoding.steps(["A", "B"], [0, 10])])
    assert model.score(slow)[0] != model.score(fast)[0]


def test_a_model_cannot_be_changed() -> None:
    """Neither the model nor its metadata takes another threshold."""
    model = load_model(default_model_path())
    with pytest.raises(AttributeError):
        model.sha256 = ""  # type: ignore[misc]
    with pytest.raises(AttributeError):
        model.metadata.threshold = 0.1  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(PACKAGED) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(path: Path, at: int, bit: int) -> None:
    """One bit off anywhere in the file, seal and weights included, is refused."""
    damaged = bytearray(PACKAGED)
    damaged[at] ^= 1 << bit
    _refusal(path, bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, len(PACKAGED) - 1))
def test_any_truncation_is_refused(path: Path, length: int) -> None:
    """A file that ends early anywhere is refused."""
    _refusal(path, PACKAGED[:length])


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2_000))
def test_arbitrary_bytes_are_refused(path: Path, data: bytes) -> None:
    """Bytes that are no model, alone or after a model, are refused."""
    _refusal(path, data)
    if data:
        _refusal(path, PACKAGED + data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_under_a_valid_seal_is_refused_or_harmless(path: Path, data: st.DataObject) -> None:
    """Damage sealed again, as an edit would be, is refused by the later checks or leaves the canaries' scores."""
    damaged = bytearray(SMALL[:-SEAL_BYTES])
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        model = _load(path, seal(bytes(damaged)))
    except ModelRefusedError as error:
        assert str(path) in str(error)  # noqa: PT017  only one of two outcomes has a message
        return
    canaries = model.metadata.canaries
    steps = [model.encoding.steps(canary.actions, canary.times_ms) for canary in canaries]
    expected = np.array([canary.score for canary in canaries])
    assert canaries
    assert (np.abs(model.score(model.encoding.windows(steps)) - expected) <= CANARY_TOLERANCE).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "cannot be read"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(PACKAGED[:50_000]), "bear no seal"),
        (lambda path: path.write_bytes(PACKAGED[:-1]), "do not match their seal"),
        (lambda path: path.write_bytes(random_graph().SerializeToString()), "bear no seal"),
    ],
    ids=["missing", "directory", "empty", "half", "last byte missing", "foreign"],
)
def test_no_model_file(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    """What is not a whole file of ours is refused, saying what it is instead."""
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(ModelRefusedError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)


def test_too_large(tmp_path: Path) -> None:
    """A file beyond the bound is refused without being read to its end."""
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES * 1_000)  # sparse: more than would fit in memory
    with pytest.raises(ModelRefusedError, match="more than 67,108,864 bytes"):
        load_model(path)


def test_foreign_graph_under_a_seal(path: Path) -> None:
    """An ONNX file without our metadata is refused even when it is sealed."""
    assert METADATA_KEY in _refusal(path, seal(random_graph().SerializeToString()))


def _described(document: object) -> bytes:
    """Return a sealed file with this metadata, whatever it says."""
    graph = random_graph()
    value = msgspec.json.encode(document).decode()
    graph.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=value))
    return seal(graph.SerializeToString())


def test_format(path: Path) -> None:
    """A newer format asks for another detector, whatever else its metadata holds; an older one for training."""
    newer = {"format": 4, "unheard_of": []}
    assert re.search("format 4: expected one from 1 to 3; update", _refusal(path, _described(newer)))
    assert re.search(
        "format 0: expected one from 1 to 3; train", _refusal(path, _described(metadata(format=0)))
    )


EVIDENCE = Evidence(window_weight=1, bias=0, logit_weight=0.1, drift=-0.01, floor=-2, scale_actions=50)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1),
        ({"ends_session": ("LOGOUT",), "moves_money": ("PAY",), "large_money": ()}, 1),
        ({"evidence": EVIDENCE}, 2),
        ({"ends_session": ("SIGN_OUT",)}, 2),
        ({"ends_session": ()}, 2),
    ],
)
def test_a_file_has_the_oldest_format_whose_detectors_score_it_rightly(
    path: Path, changes: dict[str, Any], expected: int
) -> None:
    """What older detectors would read past, to score otherwise, they refuse by its format; all else they still load."""
    model = _load(path, random_file(**changes))
    assert model.metadata.format == expected
    assert {name: getattr(model.metadata, name) for name in changes} == changes
    if expected > 1:
        claims = msgspec.structs.replace(model.metadata, format=1)
        assert "it has format 1 and what begins with format 2" in _refusal(path, _described(claims))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"floor": 0.5}, "floor is 0.5: expected 0 or below"),
        ({"scale_actions": 0.0}, "scale_actions is 0.0: expected a number above 0"),
        ({"drift": 1e7}, r"drift is 10000000.0: expected a number of at most 1e\+06"),
        ({"bias": "none"}, "expected what `python -m trainer train` writes"),
    ],
)
def test_evidence_that_is_none(path: Path, changes: dict[str, Any], words: str) -> None:
    """Parameters that a score can't be made of are refused, with what was expected."""
    told = metadata(format=2, evidence=EVIDENCE)
    document = msgspec.to_builtins(told)
    document["evidence"] |= changes
    assert re.search(words, _refusal(path, _described(document)))


def test_a_sessions_score_is_that_of_its_windows_added_up(path: Path) -> None:
    """`session_scores` scores the window after each action; evidence makes of these what it makes of them in serving."""
    model, other = _load(path, random_file()), _load(path, random_file(evidence=EVIDENCE))
    steps = model.encoding.steps([VOCABULARY[number * number % 8] for number in range(25)])
    ends = range(STEP_BYTES, len(steps) + 1, STEP_BYTES)
    windows = model.score(model.encoding.windows([steps[:end] for end in ends])).tolist()
    assert model.session_scores(steps) == windows
    assert other.session_scores(steps) == EVIDENCE.session_scores(windows)


@pytest.mark.parametrize("document", ["", "{", "[]", "{}", '{"format": "one"}', '{"format": 1}', "null"])
def test_metadata_that_is_none(path: Path, document: str) -> None:
    """A metadata document that is not what the trainer writes is refused."""
    graph = random_graph()
    graph.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=document))
    assert "metadata is not valid" in _refusal(path, seal(graph.SerializeToString()))


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0000001, 1e300])
def test_threshold_out_of_range(path: Path, threshold: float) -> None:
    """A threshold that would always or never block is refused and named."""
    assert str(threshold) in _refusal(path, random_file(threshold=threshold))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 9}, r"actions tensor\(int32\)\[n, 10\].*expected.*\[n, 9\]"),
        ({"window": 0}, "window of 0 actions"),
        (
            {"window": 4_000, "signals": MANY},
            "window of 4000 actions of 35 bytes each: expected at most 65,535 bytes",
        ),
        ({"vocabulary": list("ABCDEFGHI")}, "names 9 actions .*built for fewer"),
        ({"vocabulary": list("ABCDEFG")}, "names 7 actions .*built for more"),
        ({"vocabulary": []}, "vocabulary of 0 actions"),
        ({"vocabulary": list("AABCDEFG")}, "expected 1 to .* distinct"),
        ({"gap_bounds_ms": [1_000]}, r"inputs actions.*expected actions.*, gaps tensor\(int32\)"),
        ({"gap_bounds_ms": [2, 1]}, "gap bounds"),
        ({"canaries": []}, "no canaries"),
        ({"canaries": [Canary(actions=["LOGIN"], score=0.123)]}, "canary.*expected 0.123"),
        ({"canaries": [Canary(actions=["JUMP"], score=0.5)]}, "canary cannot be encoded"),
    ],
)
def test_metadata_that_contradicts_the_graph(path: Path, changes: dict[str, Any], words: str) -> None:
    """Metadata of another graph, or of none, is refused."""
    assert re.search(words, _refusal(path, random_file(**changes)))


@pytest.mark.parametrize(("actions", "buckets"), [(2, 4), (2, 6), (1, 5), (3, 5)])
def test_gap_tables_that_contradict_the_metadata(path: Path, actions: int, buckets: int) -> None:
    """A gap or action table one row too short or too long is refused."""
    right = metadata(vocabulary=["A", "B"], gap_bounds_ms=[1_000, 60_000])
    told = with_canaries(gap_graph(), right, [0, 5_000])
    assert "graph was built for" in _refusal(path, model_file(gap_graph(actions, buckets), told))


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
    assert re.search(words, _refusal(path, model_file(graph, told)))


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
    assert "change with its later actions" in _refusal(path, model_file(graph, told))


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
    assert named in _refusal(path, model_file(graph, told))


def test_functions_and_sparse_tensors_in_a_graph(path: Path) -> None:
    """What could call itself, or be far larger than its file, is refused."""
    told = with_canaries(random_graph(), metadata())
    with_function, with_sparse = random_graph(), random_graph()
    with_function.functions.append(helper.make_function("own", "f", [], [], [], []))
    with_sparse.graph.sparse_initializer.add().dims.extend([10**6, 10**6])
    for graph in (with_function, with_sparse):
        assert "functions or sparse tensors" in _refusal(path, model_file(graph, told))


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
    assert "canary" in _refusal(path, model_file(graph, told))


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
    assert "External data" in _refusal(path, seal(data))


def test_serving_is_quiet_and_needs_no_training_library(tmp_path: Path) -> None:
    """Loading and scoring, refusals included, write nothing and import neither TensorFlow, Keras nor onnx."""
    contradicting, garbled = tmp_path / "contradicting.onnx", tmp_path / "garbled.onnx"
    contradicting.write_bytes(random_file(vocabulary=list("ABCDEFGHI")))
    garbled.write_bytes(seal(SMALL[:-SEAL_BYTES].replace(b"actions", b"\x80ctions")))
    program = f"""
import sys
from pathlib import Path
from detector.model.artifact import ModelRefusedError, default_model_path, load_model
model = load_model(default_model_path())
model.score(model.encoding.windows([model.encoding.steps(["LOGIN"])]))
for path in {[str(contradicting), str(garbled)]!r}:
    try:
        load_model(Path(path))
    except ModelRefusedError:
        continue
    sys.exit("not refused")
sys.exit(bool({{"tensorflow", "keras", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
