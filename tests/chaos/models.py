"""The models that a run puts into service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import onnx
from onnx import TensorProto, helper

from detector.contract.actions import Action
from detector.core.evidence import Evidence
from detector.model.artifact import METADATA_KEY, default_model_path
from detector.model.metadata import ModelMetadata
from tests.chaos.versions import has_old_version, old_model_file
from tests.model.models import changed_file, signals_file
from trainer.training.export import model_file

_EVIDENCE = Evidence(window_weight=1.0, bias=0.0, logit_weight=0.02, drift=0.1, floor=-0.5, scale_actions=20)
_WITHOUT_FLOOR = msgspec.structs.replace(_EVIDENCE, floor=None)
VERSIONS: Final = {"1": None, "2": _EVIDENCE, "3": _WITHOUT_FLOOR}
"""Evidence of the models that may be in service, by their versions."""
_THRESHOLDS: Mapping[bool, Mapping[str, float]] = {
    False: {"1": 0.45, "2": 0.8, "3": 0.2},
    True: {"1": 0.8, "2": 0.85, "3": 0.75},
}
"""Theirs, without signals and with."""
RULES: Final = (
    b"",
    b"""
[[rule]]
name = "tried"
when = 'action == "TRANSFER_SMALL" && gap < duration("20s")'
then = "CHALLENGE"
""",
    b"""
[[rule]]
name = "tried"
when = 'action == "TRANSFER_SMALL" && gap < duration("20s")'
then = "CHALLENGE"
shadow = false

[[rule]]
name = "large"
when = 'amount > 5000.0 && action_number > 2 && action != "LOGOUT"'
then = "REVIEW"
shadow = false
""",
    b"""
[[rule]]
name = "password"
when = 'action == "CHANGE_PASSWORD" || (amount > 10000.0 && score > 0.3)'
then = "BLOCK"
shadow = false

[[rule]]
name = "allowed"
when = 'action == "VIEW_BALANCE" && gap > duration("60s")'
then = "ALLOW"
shadow = false

[[rule]]
name = "large"
when = 'amount > 5000.0'
then = "BLOCK"
""",
)
"""Rules files that a run puts into service: none, one in shadow, and some that act."""
POISON = Action.CHANGE_PASSWORD.value
"""The action that makes the failing model fail."""


def base_file(*, signals: bool) -> bytes:
    """Return what all of them are made from: the packaged model, as old versions read it, or one with signals of every kind."""
    if signals:
        return signals_file()
    return old_model_file() if has_old_version() else default_model_path().read_bytes()


def model_files(base: Path, *, signals: bool) -> list[bytes]:
    """Return the models that may be in service, as files: the base under several thresholds, with and without evidence.

    The first without signals is read by old versions, too.
    """
    return [
        changed_file(base, version=one, threshold=threshold, evidence=VERSIONS[one])
        for one, threshold in _THRESHOLDS[signals].items()
    ]


def failing_model_file(base: Path) -> bytes:
    """Return the base as it would be if it answered NaN to every window with a changed password.

    None of its canaries tells: they are those that it still passes.
    """
    model = onnx.load(str(base))
    properties = {one.key: one.value for one in model.metadata_props}
    del model.metadata_props[:]
    told = msgspec.json.decode(properties[METADATA_KEY], type=ModelMetadata)
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = [f"{one}_sound" if one == output.name else one for one in node.output]
    code = 1 + told.vocabulary.index(POISON)
    model.graph.initializer.extend(
        [
            helper.make_tensor("poison", TensorProto.INT32, [], [code]),
            helper.make_tensor("poison_axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("no_poison", TensorProto.INT32, [], [0]),
            helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")]),
        ]
    )
    # A graph that tells a score after each step is asked for windows on the way to longer ones: it fails from there on.
    tells_each = len(output.type.tensor_type.shape.dim) > 1
    count = (
        helper.make_node("CumSum", ["poisons", "poison_axis"], ["poison_count"])
        if tells_each
        else helper.make_node("ReduceSum", ["poisons", "poison_axis"], ["poison_count"], keepdims=0)
    )
    model.graph.node.extend(
        [
            helper.make_node("Equal", ["actions", "poison"], ["is_poison"]),
            helper.make_node("Cast", ["is_poison"], ["poisons"], to=TensorProto.INT32),
            count,
            helper.make_node("Greater", ["poison_count", "no_poison"], ["is_poisoned"]),
            helper.make_node("Where", ["is_poisoned", "nan", f"{output.name}_sound"], [output.name]),
        ]
    )
    canaries = [one for one in told.canaries if POISON not in one.actions]
    return model_file(model, msgspec.structs.replace(told, version="failing", canaries=canaries))
