"""What is counted for drift, and what is made of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.contract.events import SessionEvent
from detector.core.drift import (
    ACTIONS,
    LEAST_EVENTS,
    MOST_PAIRS,
    MUCH,
    NOTHING,
    PAIRS,
    REACHED,
    SLOTS,
    DriftWindow,
    Reference,
    Tally,
    Watched,
    binned,
    check_reference,
    drifted,
    measures,
    stability_index,
)
from detector.core.encoding import Encoding
from detector.core.partition import Partition
from detector.core.pipeline import Share
from detector.core.staging import Entry
from tests.core.strategies import ENCODING, SIGNALLED, SOURCE, alerts_of, logs, pipeline

SHARES: dict[str, tuple[float, ...]] = {ACTIONS: (0.5, 0.5), REACHED: (0.99, 0.01)}


def even(encoding: Encoding) -> Reference:
    """A reference that has seen everything alike."""
    none, steps = np.zeros(0, np.int64), np.zeros(0, encoding.step_dtype)
    bins = binned(steps, none, none, np.zeros(0), encoding=encoding, threshold=1.0, pairs=(1, 12))
    return Reference({name: (1 / count,) * count for name, _, count in bins}, (1, 12))


@given(log=logs(listings=True, step_ups=True), size=st.integers(1, 20))
def test_what_is_counted_does_not_depend_on_the_batches(log: list[Entry], size: int) -> None:
    """Each scored event falls into one bin of each distribution, however the log is cut, and alerts are as without."""
    for encoding in (ENCODING, SIGNALLED):
        watched = Watched(even(encoding), 0.6)
        entries = [one._replace(fields=(None,) * len(encoding.signals.fields)) for one in log]

        def run(batch: int, watching: Watched | None) -> tuple[Tally, list[str], int]:
            outcomes = list(
                pipeline(encoding=encoding, watched=watching).over(Partition(), entries, SOURCE, batch)  # noqa: B023
            )
            total = sum((one.tally for one in outcomes), NOTHING)
            scored = sum(len(one.scores) for one in outcomes)
            return total, [one.alert_id for one in alerts_of(outcomes)], scored

        cut, alerts, scored = run(size, watched)
        whole, _, _ = run(1_000, watched)
        unwatched, same, _ = run(size, None)
        assert cut.events == whole.events == scored
        assert unwatched.events == 0
        assert alerts == same
        for name, counts in whole.counts.items():
            assert cut.counts[name].tolist() == counts.tolist()
            assert counts.sum() == scored
            assert len(counts) == len(watched.reference.shares[name])


def test_pairs_that_are_not_told_apart_are_one() -> None:
    """The last bin is of all pairs but those of the reference; a session's first action is a pair with nothing."""
    log = _entries(["LOGIN", "VIEW_BALANCE", "LOGIN"])
    login = ENCODING.step("LOGIN", None)[0]
    reference = Reference(even(ENCODING).shares | {PAIRS: (0.5, 0.5)}, (login,))
    (outcome,) = pipeline(watched=Watched(reference, 0.6)).run([Share(SOURCE, Partition(), log, 3)])
    assert outcome.tally.counts[PAIRS].tolist() == [1, 2]


def _entries(actions: list[str]) -> list[Entry]:
    return [
        Entry(
            number,
            number,
            SessionEvent(
                event_id=str(number), session_id="s", account_id="a", action=action, occurred_at_ms=number
            ),
        )
        for number, action in enumerate(actions)
    ]


@pytest.mark.parametrize(
    ("counts", "shares", "index"),
    [
        ([50, 50], (0.5, 0.5), 0.0),
        ([90, 10], (0.5, 0.5), 0.4 * math.log(1.8) - 0.4 * math.log(0.2)),
        ([100, 0], (0.5, 0.5), 0.5 * math.log(2) - 0.4999 * math.log(2e-4)),
    ],
)
def test_the_index_is_that_of_the_literature(
    counts: list[int], shares: tuple[float, ...], index: float
) -> None:
    """The sum of (p - q) ln(p / q); a bin without any is one with a share of 10⁻⁴."""
    assert stability_index(np.array(counts), shares) == pytest.approx(index, rel=1e-3)


@pytest.mark.parametrize("events", [LEAST_EVENTS, 100_000])
@pytest.mark.parametrize("actions", [30, 1_000, 60_000])
def test_chance_alone_is_no_drift_however_many_actions_there_are(actions: int, events: int) -> None:
    """Events drawn from the very shares of the reference are far from the limit: most of the actions come once or never."""
    for weights in (np.ones(actions), 1 / np.arange(1, actions + 1)):
        shares = weights / weights.sum()
        drawn = np.random.default_rng(7).multinomial(events, shares)
        assert stability_index(drawn, tuple(shares)) < MUCH / 3


def test_the_window_slides_by_event_time() -> None:
    """What is older than the window counts no more; a partition that is behind counts with the newest while it may."""
    window, one = DriftWindow(SLOTS), Tally(1, {ACTIONS: np.array([1, 0])})
    for at in (100, 100 + SLOTS - 1, 101):
        window.add(at, one)
    assert window.total.events == 3
    window.add(100 + SLOTS, one)
    assert window.total.events == 3, "the first has left"
    window.add(100, one)
    assert window.total.events == 3, "too old to count"


def test_shares_that_stand_by_themselves_are_not_indices() -> None:
    """Of what is rare the share is told; of nothing, nothing."""
    counted = Tally(200, {ACTIONS: np.array([100, 100]), REACHED: np.array([190, 10])})
    assert dict(measures(counted, Reference(SHARES, (1,)))) == {ACTIONS: 0.0, REACHED: 0.05}
    assert dict(measures(NOTHING, Reference(SHARES, (1,)))) == {}


def test_few_events_are_no_drift() -> None:
    """An index of fewer than LEAST_EVENTS is chance."""
    assert drifted({ACTIONS: 0.5}, {}, LEAST_EVENTS - 1) == []
    assert drifted({ACTIONS: 0.5}, {}, LEAST_EVENTS) == [ACTIONS]


@pytest.mark.parametrize(
    "changes", [{ACTIONS: (1.0,)}, {ACTIONS: None}, {REACHED: (0.5, 0.7)}, {REACHED: (1.5, -0.5)}]
)
def test_a_reference_of_other_bins_is_refused(changes: dict[str, tuple[float, ...] | None]) -> None:
    """As are shares that are none."""
    good = even(ENCODING)
    check_reference(good, ENCODING)
    changed = {**good.shares, **changes}
    shares = {name: one for name, one in changed.items() if one is not None}
    with pytest.raises(ValueError, match="for drift"):
        check_reference(Reference(shares, good.pairs), ENCODING)


@pytest.mark.parametrize("pairs", [(), (12, 1), (1, 1), (-1, 1), (1, 10**30), tuple(range(MOST_PAIRS + 1))])
def test_pairs_that_no_training_writes_are_refused(pairs: tuple[int, ...]) -> None:
    """Each has a bin of its own and is searched for in each batch: some, rising, of codes that there are."""
    good = even(ENCODING)
    shares = good.shares | {PAIRS: (1 / (len(pairs) + 1),) * (len(pairs) + 1)}
    with pytest.raises(ValueError, match="pairs of actions for drift"):
        check_reference(Reference(shares, pairs), ENCODING)
