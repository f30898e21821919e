"""A registry in use."""

from collections.abc import Iterator

import pytest

from detector.formats import registry
from tests.formats.wires import StubRegistry, serving


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubRegistry]:
    """Return a registry that the environment names."""
    known = StubRegistry()
    with serving(known) as url:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", url)
        monkeypatch.setattr(registry, "_PAUSES_S", ())
        registry.registry_in_use.cache_clear()
        yield known
    registry.registry_in_use.cache_clear()
