"""The models that a run puts into service."""

from typing import Any

import msgspec
import onnx
from onnx import TensorProto, helper

from detector.contract.actions import Action
from detector.core.evidence import Evidence
from detector.model.artifact import METADATA_KEY, ModelMetadata, default_model_path
from tests.model.models import changed_file
from trainer.training.export import model_file

_EVIDENCE = Evidence(window_weight=1.0, bias=0.0, logit_weight=0.02, drift=0.1, floor=-0.5, scale_actions=20)
VERSIONS: dict[str, dict[str, Any]] = {
    "1": {"threshold": 0.45, "evidence": None},
    "2": {"threshold": 0.8, "evidence": _EVIDENCE},
    "3": {"threshold": 0.2, "evidence": msgspec.structs.replace(_EVIDENCE, floor=None)},
}
"""What is changed in the models that may be in service, by their versions. The first one is read by old versions, too."""
POISON = Action.CHANGE_PASSWORD.value
"""The action that makes the failing model fail."""


def model_files() -> list[bytes]:
    """Return the models that may be in service, as files: the packaged one under several thresholds, with and without evidence."""
    path = default_model_path()
    return [changed_file(path, version=one, **changes) for one, changes in VERSIONS.items()]


def failing_model_file() -> bytes:
    """Return the packaged model as it would be if it answered NaN to every window with a changed password.

    None of its canaries tells: they are those that it still passes.
    """
    model = onnx.load(str(default_model_path()))
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
    model.graph.node.extend(
        [
            helper.make_node("Equal", ["actions", "poison"], ["is_poison"]),
            helper.make_node("Cast", ["is_poison"], ["poisons"], to=TensorProto.INT32),
            helper.make_node("ReduceSum", ["poisons", "poison_axis"], ["poison_count"], keepdims=0),
            helper.make_node("Greater", ["poison_count", "no_poison"], ["is_poisoned"]),
            helper.make_node("Where", ["is_poisoned", "nan", f"{output.name}_sound"], [output.name]),
        ]
    )
    canaries = [one for one in told.canaries if POISON not in one.actions]
    return model_file(model, msgspec.structs.replace(told, version="failing", canaries=canaries))
