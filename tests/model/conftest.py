"""What tests of model files share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write models to, one after the other."""
    return tmp_path_factory.mktemp("models") / "model.onnx"
