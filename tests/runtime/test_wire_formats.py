"""Events of several wire formats on a real broker: one topic, one worker, and a registry that is away for a while."""

import json
from collections.abc import Callable

import pytest

from detector.formats import registry
from tests.formats.wires import WIRES, StubRegistry, serving
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions


def test_events_wait_for_their_schemas(
    make_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the registry is away nothing is committed and nothing is a dead letter; then all alerts are there, once."""
    stack, known = make_stack(partitions=2), StubRegistry()
    simulated, wires = sessions(220), list(WIRES.values())
    known.fails_with = 503
    with serving(known) as url:
        monkeypatch.setenv("SCHEMA_REGISTRY_URL", url)
        registry.registry_in_use.cache_clear()
        stack.publish(
            (key, wires[number % len(wires)](json.loads(value)))
            for number, (key, value) in enumerate(records(simulated))
        )
        with stack.worker("--batch-max-events", "100") as worker:
            worker.wait_until_logged("the schema registry at 127.0.0.1 answers 503")
            assert stack.read(stack.config.dead_letter_topic) == stack.alerts() == []
            known.fails_with = 0
            stack.wait_until_processed()
        found = stack.alerts()
        expected, letters = stack.expected()
    registry.registry_in_use.cache_clear()
    assert letters == []
    assert without_clock(found) == without_clock(expected)
    assert sorted(alert.session_id for alert in found) == sorted(
        one.session_id for one in simulated if one.is_attack
    )
