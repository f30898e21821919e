"""A stack of a test's own on the session's broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker import Broker
from tests.conftest import UniqueName
from tests.runtime.stack import Stack


@pytest.fixture
def make_stack(kafka: Broker, unique_name: UniqueName, tmp_path: Path) -> Callable[..., Stack]:
    """Return a function that makes a stack with some settings of DetectorConfig."""

    def make(**settings: Any) -> Stack:
        return Stack(kafka.bootstrap_servers, unique_name("detector"), tmp_path, **settings)

    return make
