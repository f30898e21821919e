"""Topics that take less than the detector writes, as those that others made may, on a real broker."""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, without_clock
from tests.runtime.test_end_to_end import records, sessions

_LIMIT = "max.message.bytes"
_LIMIT_BYTES = 20_000
_TINY_BYTES = 100
"""Less than any record here, and enough for the markers of transactions, which the limit holds for as well."""


def test_a_batch_beyond_a_topics_limit_is_split(
    make_stack: Callable[..., Stack], set_topic: SetTopic
) -> None:
    """Records that fit one by one and not together are published all the same, each once."""
    stack = make_stack()
    set_topic(stack.config.dead_letter_topic, _LIMIT, str(_LIMIT_BYTES))
    garbage = [(key, b"x" * (_LIMIT_BYTES * 3 // 4)) for key in (b"a", b"b", b"c") for _ in range(12)]
    stack.publish([*garbage, *records(sessions(22))])
    with stack.worker() as worker:
        stack.wait_until_processed()
        assert "splitting batch" in worker.log.read_text(), "the test has to reach the limit"
    letters = stack.read(stack.config.dead_letter_topic)
    assert Counter((one.key, one.value) for one in letters) == Counter(garbage)
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []


@pytest.mark.parametrize("topic", ["dead_letter_topic", "state_topic", "models_topic"])
def test_a_record_beyond_a_topics_limit_ends_the_detector(
    make_stack: Callable[..., Stack], set_topic: SetTopic, topic: str
) -> None:
    """It ends with exit code 1, the topic's name and the setting; with the setting mended nothing is missing."""
    stack = make_stack()
    name = getattr(stack.config, topic)
    set_topic(name, _LIMIT, str(_TINY_BYTES))
    garbage = (b"a", b"x" * 1_000)
    stack.publish([garbage, *records(sessions(22))])
    told = stack.start().last_words()
    assert name in told
    assert "max.message.bytes" in told
    assert stack.alerts() == []
    set_topic(name, _LIMIT, "1000000")
    with stack.worker():
        stack.wait_until_processed()
    assert [one.value for one in stack.read(stack.config.dead_letter_topic)] == [garbage[1]]
    assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
