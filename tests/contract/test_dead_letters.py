"""Dead letters as records: what is written is read again, and nothing anybody publishes can break or bloat it."""

from hypothesis import given
from hypothesis import strategies as st

from detector.contract.dead_letters import (
    MAX_HISTORY,
    PREFIX,
    DeadLetter,
    Failure,
    NoDeadLetterError,
    Reason,
    dead_letter_headers,
    history_of,
    original_headers,
    read_dead_letter,
    redriven_headers,
)

OFFSETS = st.integers(0, 2**62)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from([one.value for one in Reason]),
    topic=TEXTS,
    partition=st.integers(0, 1_000),
    offset=OFFSETS,
    timestamp_ms=OFFSETS,
)
NAMES = TEXTS.filter(lambda name: not name.startswith(PREFIX))
LETTERS = st.builds(
    DeadLetter,
    reason=st.sampled_from(Reason),
    detail=TEXTS,
    topic=TEXTS,
    partition=st.integers(0, 1_000),
    offset=OFFSETS,
    timestamp_ms=OFFSETS,
    key=st.none() | st.binary(),
    value=st.binary(),
    value_bytes=OFFSETS,
    headers=st.lists(st.tuples(NAMES, st.binary()), max_size=5).map(tuple),
    headers_omitted=st.integers(0, 5),
    key_bytes=st.none() | OFFSETS,
    redrives=st.just(3),
    history=st.lists(FAILURES, max_size=MAX_HISTORY).map(tuple),
)
ANY_HEADERS = st.lists(
    st.tuples(
        TEXTS | st.sampled_from(["dlq-history", "dlq-redrive-count", "dlq-reason"]),
        st.none() | st.binary() | st.sampled_from([b"3", b'{"reason":"x"}', b"[" * 900, b"\xff"]),
    ),
    max_size=30,
)


@given(LETTERS)
def test_a_dead_letter_comes_back_as_it_went(letter: DeadLetter) -> None:
    """Every field survives the way through a record."""
    assert read_dead_letter(letter.key, letter.value, dead_letter_headers(letter)) == letter


@given(LETTERS)
def test_a_redriven_event_carries_headers_and_history(letter: DeadLetter) -> None:
    """The original's headers stay, the count grows by one, and the newest failure ends the history."""
    headers = redriven_headers(letter)
    redrives, history = history_of(headers)
    assert original_headers(headers) == letter.headers
    assert redrives == letter.redrives + 1
    assert len(history) == min(len(letter.history) + 1, MAX_HISTORY)
    assert (history[-1].reason, history[-1].offset) == (letter.reason.value, letter.offset)


@given(st.lists(LETTERS, min_size=1, max_size=25))
def test_history_is_bounded_and_keeps_the_first_failure(letters: list[DeadLetter]) -> None:
    """However often an event is redriven, its headers hold the first failure, the last ones, and the count."""
    headers: list[tuple[str, bytes]] = []
    for letter in letters:
        redrives, history = history_of(headers)
        failed = {**{name: getattr(letter, name) for name in letter.__struct_fields__}}
        headers = redriven_headers(DeadLetter(**failed | {"redrives": redrives, "history": history}))
    redrives, history = history_of(headers)
    offsets = [letter.offset for letter in letters]
    kept = offsets if len(offsets) <= MAX_HISTORY else [offsets[0], *offsets[1 - MAX_HISTORY :]]
    assert redrives == len(letters)
    assert [failure.offset for failure in history] == kept


@given(ANY_HEADERS)
def test_any_headers_are_read_or_refused(headers: list[tuple[str, bytes | None]]) -> None:
    """Headers of strangers give a bounded history and originals, or the one error for what is no dead letter."""
    redrives, history = history_of(headers)
    assert 0 <= redrives < 10**9
    assert len(history) <= MAX_HISTORY
    assert all(not name.startswith(PREFIX) for name, _ in original_headers(headers))
    try:
        read_dead_letter(None, b"", headers)
    except NoDeadLetterError:
        return
    raise AssertionError("headers without a source were taken for a dead letter's")
