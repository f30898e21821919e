"""The reasons that an alert carries: what they cost, what they rest on, and their words."""

import math
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import Alert, Cause, Decision, SourcePosition
from detector.contract.explanations import Attribution
from detector.core import explaining
from detector.core.breaker import BreakerState
from detector.core.decision import Decided
from detector.core.encoding import STEP_BYTES, Encoding
from detector.core.judging import AlertedSessions
from detector.core.limits import SessionLimits
from detector.core.partition import Partition
from detector.core.reasons import (
    EXACT_ACTIONS,
    MAX_ACTIONS,
    MAX_REASONS,
    MAX_WINDOWS,
    MIN_REASON,
    Score,
    reasons,
    with_reasons,
)
from detector.core.staging import Entry
from tests.core.strategies import ACTIONS, MODEL, POLICY, SOURCE, alerts_of, logs, pipeline
from tests.core.strategies import score as hashed

GAPS_MS = [1_000, 60_000]
WIDE = Encoding(ACTIONS, window=80, gap_bounds_ms=GAPS_MS)


def windows(most: int, least: int = 1) -> st.SearchStrategy[bytes]:
    """Draw packed windows."""
    steps = st.tuples(st.sampled_from(ACTIONS), st.sampled_from([None, 0, 5_000, 100_000]))
    return st.lists(steps, min_size=least, max_size=most).map(
        lambda drawn: b"".join(WIDE.step(*one) for one in drawn)
    )


def alert_of(window: bytes, number: int = 0, **changes: Any) -> Alert:
    """Make an alert of a window, without reasons."""
    alert = Alert(
        alert_id=str(number), decision=Decision.BLOCK, session_id="s", account_id="a", score=0.5, threshold=0.5,
        action="LOGIN", event_id="e", action_number=1, window=WIDE.actions(window),
        gap_ranges_ms=WIDE.gap_ranges_ms(window), model=MODEL, source=SourcePosition(topic="t", partition=0, offset=0),
        occurred_at_ms=0, received_at_ms=0, detected_at_ms=0,
    )  # fmt: skip
    return msgspec.structs.replace(alert, **changes)


def reasoned(window_of_each: Sequence[bytes], score: Score = hashed, **changes: Any) -> list[Alert]:
    """Give alerts of these windows their reasons, all in one batch."""
    alerts = [alert_of(window, number, **changes) for number, window in enumerate(window_of_each)]
    decided = Decided(
        alerts,
        list(window_of_each),
        Counter(),
        {},
        BreakerState(),
        0,
        Counter(),
        AlertedSessions({}, 0, 0, {}),
    )
    return with_reasons(decided, WIDE, score).alerts


def values_in(alert: Alert) -> list[float]:
    """Return the values that the words give, to two digits."""
    return [float(one.rpartition(": ")[2]) for one in alert.explanation]


@given(windows(EXACT_ACTIONS))
def test_reasons_of_few_actions_are_exact(window: bytes) -> None:
    """In a window of few actions the values are the Shapley values, bit for bit, and so are the words but for gaps."""
    (alert,) = reasoned([window])
    exact = explaining.explain(
        msgspec.structs.replace(alert, alert_id=str(uuid.UUID(int=1)), score=alert.scores[-1]),
        WIDE,
        hashed,
    )
    without_gaps = [msgspec.structs.replace(one, gap_value=None) for one in exact.attributions]
    assert alert.explanation == list(reasons(alert.window, without_gaps))


@given(windows(80, EXACT_ACTIONS + 1))
def test_values_never_come_to_more_than_the_score_gained(window: bytes) -> None:
    """Each value is the mean of what the action adds alone and last; they are scaled down to the gain, never up."""
    given_ = window[: max(0, len(window) - MAX_ACTIONS * STEP_BYTES)]
    ends = range(len(given_), len(window), STEP_BYTES)
    alone = [given_ + window[end : end + STEP_BYTES] for end in ends]
    without = [window[:end] + window[end + STEP_BYTES :] for end in ends]
    baseline, whole = hashed(WIDE.windows([given_, window])).tolist()
    first, last = (np.array(hashed(WIDE.windows(some)).tolist()) for some in (alone, without))
    means = (first - baseline + whole - last) / 2
    total = math.fsum(means)
    values = means if abs(total) <= abs(whole - baseline) else means * abs((whole - baseline) / total)
    (alert,) = reasoned([window])
    weightiest = sorted(values.tolist(), key=abs, reverse=True)[:MAX_REASONS]
    expected = [value for value in weightiest if abs(value) >= MIN_REASON]
    assert values_in(alert) == pytest.approx(expected, abs=0.0051)


@given(windows(80))
def test_the_score_after_each_action_is_told(window: bytes) -> None:
    """Of the last actions: what the window up to and with each scores; the last is the whole window's score."""
    (alert,) = reasoned([window])
    ends = range(STEP_BYTES, len(window) + 1, STEP_BYTES)
    assert alert.scores == hashed(WIDE.windows([window[:end] for end in ends])).tolist()[-MAX_ACTIONS:]


@pytest.mark.parametrize("count", [1, EXACT_ACTIONS, EXACT_ACTIONS + 1, 20, MAX_ACTIONS, 80])
def test_reasons_cost_at_most_a_hundred_windows(count: int) -> None:
    """However long the window, and with the scores after each action among them."""
    asked: list[int] = []

    def counting(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        asked.append(len(windows_))
        return hashed(windows_)

    reasoned([WIDE.step("LOGIN", 1) * count], counting)
    assert len(asked) == 1
    assert asked[0] <= MAX_WINDOWS <= 100


def test_many_alerts_are_scored_in_few_calls_of_bounded_size() -> None:
    """A batch of thousands of alerts takes a call for each 64, and none is larger than their windows."""
    asked: list[int] = []

    def counting(windows_: NDArray[np.void]) -> NDArray[np.float32]:
        asked.append(len(windows_))
        return hashed(windows_)

    reasoned([WIDE.step("LOGIN", at % 3) * (1 + at % 40) for at in range(1_000)], counting)
    assert len(asked) == 16
    assert max(asked) <= 64 * MAX_WINDOWS


@given(st.lists(windows(40), min_size=1, max_size=6))
def test_reasons_depend_on_nothing_but_the_window(drawn: list[bytes]) -> None:
    """In a batch with any others, before or behind them, an alert has the reasons that it has alone."""
    together = reasoned(drawn)
    assert [one.explanation for one in together] == [reasoned([one])[0].explanation for one in drawn]
    assert [one.scores for one in together] == [reasoned([one])[0].scores for one in drawn]


@given(windows(40))
def test_what_overruled_the_score_comes_first(window: bytes) -> None:
    """The deny list is named before the reasons; what is none of the model's doing has only that, and costs nothing."""

    def refusing(_: NDArray[np.void]) -> NDArray[np.float32]:
        raise AssertionError("scored")

    plain, denied = reasoned([window])[0], reasoned([window], cause=Cause.DENY_LIST)[0]
    assert denied.explanation == ["the account is on the deny list", *plain.explanation]
    (held_back,) = reasoned([window], refusing, cause=Cause.CIRCUIT_BREAKER)
    assert held_back.explanation == ["challenge instead of block: the circuit breaker is open"]
    (failed,) = reasoned([window], refusing, cause=Cause.STEP_UP_FAILED)
    assert failed.explanation == ["the second factor that the session was asked for failed"]
    assert held_back.scores == failed.scores == []


@given(logs(), st.integers(1, 60))
def test_reasons_do_not_depend_on_batches(log: list[Entry], batch_events: int) -> None:
    """Any cut of the log gives the same reasons, bit for bit."""

    def alerts(events: int) -> list[Alert]:
        limits = SessionLimits(idle_timeout_ms=10**12, max_sessions=9)
        run = pipeline(hashed, policy=POLICY, limits=limits, encoding=WIDE)
        return alerts_of(run.over(Partition(), log, SOURCE, batch_events if events else len(log)))

    assert alerts(0) == alerts(1)


def attribution(
    action: str,
    value: float,
    gap_ms: tuple[int, int | None] | None = None,
    gap_value: float | None = None,
) -> Attribution:
    """Make an attribution."""
    return Attribution(action=action, gap_range_ms=gap_ms, value=value, gap_value=gap_value)


@pytest.mark.parametrize(
    ("gap_ms", "words"),
    [
        ((0, 500), "B under 500 ms after A: +0.41"),
        ((500, 2_000), "B 500 ms–2 s after A: +0.41"),  # noqa: RUF001
        ((2_000, 4_000), "B 2–4 s after A: +0.41"),  # noqa: RUF001
        ((1_500, 30_000), "B 1.5–30 s after A: +0.41"),  # noqa: RUF001
        ((3_600_000, 86_400_000), "B 1 h–1 d after A: +0.41"),  # noqa: RUF001
        ((1_800_000, None), "B 30 min or more after A: +0.41"),
        (None, "B after A: +0.41"),
    ],
)
def test_words_give_the_action_the_gap_and_the_value(
    gap_ms: tuple[int, int | None] | None, words: str
) -> None:
    """The state keeps a gap's bucket, so the words give its range."""
    assert list(reasons(["A", "B"], [attribution("A", 0.0), attribution("B", 0.412, gap_ms)])) == [words]


def test_words_name_what_added_most_first() -> None:
    """By the action's value, whichever its sign; a gap's is told with it. What rounds to nothing is left out."""
    given_ = [
        attribution("B", -0.5, (0, 10)),
        attribution("C", -0.002, (0, 10), 0.6),
        attribution("D", 0.004, (0, 10), -0.004),
        attribution("E", 0.1, (10, None), 0.001),
    ]
    assert list(reasons(["A", "B", "C", "D", "E"], given_)) == [
        "B under 10 ms after A: -0.50",
        "E 10 ms or more after D: +0.10",
        "C under 10 ms after B: +0.00 (the gap: +0.60)",
    ]
    assert reasons(["B", "C", "D", "E"], given_)[0] == "B under 10 ms after the action before: -0.50"
    assert len(list(reasons(["A"] * 20, [attribution("A", 0.3)] * 20))) == MAX_REASONS


def test_gap_ranges_are_those_of_the_buckets() -> None:
    """A gap lies in the range that its step's bucket names, and its beginning makes the same step; a first action has none."""
    steps = [WIDE.step("LOGIN", gap) for gap in (None, 0, 999, 1_000, 59_999, 60_000)]
    ranges = WIDE.gap_ranges_ms(b"".join(steps))
    assert ranges == [None, (0, 1_000), (0, 1_000), (1_000, 60_000), (1_000, 60_000), (60_000, None)]
    assert [WIDE.step("LOGIN", None if one is None else one[0]) for one in ranges] == steps
    timeless = Encoding(ACTIONS, 10)
    assert timeless.gap_ranges_ms(timeless.step("LOGIN", 5)) == [None]
