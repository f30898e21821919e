"""The models that a run puts into service."""

import msgspec
import onnx
from onnx import TensorProto, helper

from detector.contract.actions import Action
from detector.model.artifact import METADATA_KEY, ModelMetadata, default_model_path
from tests.model.models import changed_file
from trainer.training.export import model_file

VERSIONS = {"1": 0.45, "2": 0.8, "3": 0.2}
"""Thresholds of the models that may be in service, by their versions."""
POISON = Action.CHANGE_PASSWORD.value
"""The action that makes the failing model fail."""


def model_files() -> list[bytes]:
    """Return the models that may be in service, as files: the packaged one under several thresholds."""
    path = default_model_path()
    return [changed_file(path, threshold=threshold, version=one) for one, threshold in VERSIONS.items()]


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
