"""Loading a model file that was just written."""

from pathlib import Path

import pytest

from detector.model.artifact import Model, ModelRefusedError, load_model


def loaded(path: Path, data: bytes) -> Model:
    """Write a model file, and load it."""
    path.write_bytes(data)
    return load_model(path)


def refusal(path: Path, data: bytes) -> str:
    """Write a model file that is refused; return with which words, which name it and what was expected."""
    with pytest.raises(ModelRefusedError) as caught:
        loaded(path, data)
    message = str(caught.value)
    assert str(path) in message
    assert "expected" in message
    return message
