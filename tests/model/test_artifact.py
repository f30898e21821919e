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

from detector.core.encoding import STEP_BYTES
from detector.core.evidence import Evidence
from detector.core.signals import MAX_SIGNALS, Kind, Signal
from detector.model.artifact import (
    CANARY_TOLERANCE,
    MAX_MODEL_BYTES,
    METADATA_KEY,
    ModelRefusedError,
    default_model_path,
    load_model,
    packaged_model_path,
    seal,
)
from detector.model.metadata import Canary
from tests.model.models import (
    VOCABULARY,
    gap_graph,
    metadata,
    random_file,
    random_graph,
    with_canaries,
)
from tests.model.refusing import loaded, refusal
from trainer.training.export import model_file

PACKAGED = packaged_model_path("seed").read_bytes()
SMALL = random_file()
MANY = tuple(Signal(name=str(n), kind=Kind.MAGNITUDE, of="amount", bounds=(n,)) for n in range(MAX_SIGNALS))
SEAL_BYTES = len(seal(b""))


def test_what_was_exported_is_what_is_loaded(path: Path) -> None:
    """A loaded model has the file's metadata, its hash, and an encoding and a reference made of them."""
    graph = random_graph()
    told = with_canaries(graph, metadata(name="n", version="7", threshold=0.25))
    data = model_file(graph, told)
    model = loaded(path, data)
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
    model = loaded(path, model_file(graph, told))
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
    refusal(path, bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, len(PACKAGED) - 1))
def test_any_truncation_is_refused(path: Path, length: int) -> None:
    """A file that ends early anywhere is refused."""
    refusal(path, PACKAGED[:length])


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2_000))
def test_arbitrary_bytes_are_refused(path: Path, data: bytes) -> None:
    """Bytes that are no model, alone or after a model, are refused."""
    refusal(path, data)
    if data:
        refusal(path, PACKAGED + data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_under_a_valid_seal_is_refused_or_harmless(path: Path, data: st.DataObject) -> None:
    """Damage sealed again, as an edit would be, is refused by the later checks or leaves the canaries' scores."""
    damaged = bytearray(SMALL[:-SEAL_BYTES])
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        model = loaded(path, seal(bytes(damaged)))
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
    assert METADATA_KEY in refusal(path, seal(random_graph().SerializeToString()))


def _described(document: object) -> bytes:
    """Return a sealed file with this metadata, whatever it says."""
    graph = random_graph()
    value = msgspec.json.encode(document).decode()
    graph.metadata_props.append(onnx.StringStringEntryProto(key=METADATA_KEY, value=value))
    return seal(graph.SerializeToString())


def test_format(path: Path) -> None:
    """A newer format asks for another detector, whatever else its metadata holds; an older one for training."""
    newer = {"format": 4, "unheard_of": []}
    assert re.search("format 4: expected one from 1 to 3; update", refusal(path, _described(newer)))
    assert re.search(
        "format 0: expected one from 1 to 3; train", refusal(path, _described(metadata(format=0)))
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
    model = loaded(path, random_file(**changes))
    assert model.metadata.format == expected
    assert {name: getattr(model.metadata, name) for name in changes} == changes
    if expected > 1:
        claims = msgspec.structs.replace(model.metadata, format=1)
        assert "it has format 1 and what begins with format 2" in refusal(path, _described(claims))


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
    assert re.search(words, refusal(path, _described(document)))


def test_a_sessions_score_is_that_of_its_windows_added_up(path: Path) -> None:
    """`session_scores` scores the window after each action; evidence makes of these what it makes of them in serving."""
    model, other = loaded(path, random_file()), loaded(path, random_file(evidence=EVIDENCE))
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
    assert "metadata is not valid" in refusal(path, seal(graph.SerializeToString()))


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0000001, 1e300])
def test_threshold_out_of_range(path: Path, threshold: float) -> None:
    """A threshold that would always or never block is refused and named."""
    assert str(threshold) in refusal(path, random_file(threshold=threshold))


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
    assert re.search(words, refusal(path, random_file(**changes)))


@pytest.mark.parametrize(("actions", "buckets"), [(2, 4), (2, 6), (1, 5), (3, 5)])
def test_gap_tables_that_contradict_the_metadata(path: Path, actions: int, buckets: int) -> None:
    """A gap or action table one row too short or too long is refused."""
    right = metadata(vocabulary=["A", "B"], gap_bounds_ms=[1_000, 60_000])
    told = with_canaries(gap_graph(), right, [0, 5_000])
    assert "graph was built for" in refusal(path, model_file(gap_graph(actions, buckets), told))


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
