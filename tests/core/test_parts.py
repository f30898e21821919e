"""Which parts of an action counted: named in the alert at once, with values in its explanation."""

import uuid
from dataclasses import replace
from math import fsum

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.contract.alerts import Alert, decode_alert, encode_alert
from detector.contract.explanations import Attribution
from detector.core.decision import Decided
from detector.core.explaining import NotExplainableError, explain, parts_values
from detector.core.partition import Partition
from detector.core.reasons import (
    MAX_ACTIONS,
    MAX_PART_WINDOWS,
    MAX_WINDOWS,
    PARTED_ACTIONS,
    Case,
    reasons_of,
    weightiest,
    window_of,
)
from detector.core.signals import ABSENT, FIRST
from detector.core.staging import Entry
from tests.core.strategies import (
    ACTIONS,
    EVIDENCE,
    FIELDS,
    GUARDED,
    SIGNALLED,
    SIGNALS,
    SOURCE,
    alerts_of,
    logs,
    pipeline,
)
from tests.core.strategies import score as hashed

USUAL = bytes(one.usual(FIRST) for one in SIGNALS)
NAMES = [one.name for one in SIGNALS]
SEED = uuid.UUID(int=7)


def codes(**changes: int) -> bytes:
    """Return the signals of an event where all is usual but for some, a blank in their names written as `_`."""
    changed = {name.replace("_", " "): code for name, code in changes.items()}
    return bytes(changed.get(name, usual) for name, usual in zip(NAMES, USUAL, strict=True))


TRANSFER = SIGNALLED.step("TRANSFER_LARGE", 5_000, codes(unusual_amount=FIRST + 3, device=FIRST, hour=FIRST))
WINDOW = SIGNALLED.step("LOGIN", None, codes(device=FIRST)) + TRANSFER


def on_amounts(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by logits: a large transfer counts, much more so at an unusual amount, and less on a channel that is known."""
    large = windows["action"] == 1 + ACTIONS.index("TRANSFER_LARGE")
    unusual = windows["signals"][:, :, NAMES.index("unusual amount")] == FIRST + 3
    known = windows["signals"][:, :, NAMES.index("channel")] == FIRST
    logits = (large * (2.0 + 3.0 * unusual - 1.5 * known)).sum(axis=1) - 4.0
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def additive(windows: NDArray[np.void]) -> NDArray[np.float32]:
    """Score by a sum: a term for each action, device never seen, and unusual amount, which single precision adds exactly."""
    new = windows["signals"][:, :, NAMES.index("device")] == FIRST
    unusual = windows["signals"][:, :, NAMES.index("unusual amount")] == FIRST + 3
    terms = (windows["action"] > 0) * 0.0625 + new * 0.125 + unusual * 0.25
    return np.asarray(terms.sum(axis=1), np.float32)


def words_of(window: bytes) -> list[str]:
    """Return the reasons of a window."""
    return reasons_of([Case(window, 2)], SIGNALLED, on_amounts)[0].words


def test_the_parts_that_counted_are_named() -> None:
    """Behind the action and its gap, in words; what is out of the ordinary and did not count is not."""
    assert words_of(WINDOW) == [
        "TRANSFER_LARGE 1 s–1 min after LOGIN, amount 3 or more deviations above the usual, 2.1 times it or more: +0.71"  # noqa: RUF001
    ]


def test_a_part_is_named_where_it_weighs_as_its_action_does() -> None:
    """A channel that lowers the risk is no reason for the action that raises it."""
    step = SIGNALLED.step("TRANSFER_LARGE", 5_000, codes(unusual_amount=FIRST + 3, channel=FIRST))
    assert all("channel" not in one for one in words_of(SIGNALLED.step("LOGIN", None, USUAL) + step))


@st.composite
def windows(draw: st.DrawFn, most: int = 8) -> bytes:
    """Draw packed windows with any signals."""
    of_signals = st.tuples(*(st.integers(ABSENT, end - 1) for end in SIGNALLED.signals.codes)).map(bytes)
    steps = st.tuples(st.sampled_from(ACTIONS), st.sampled_from([None, 0, 5_000, 100_000]), of_signals)
    return b"".join(SIGNALLED.step(*one) for one in draw(st.lists(steps, min_size=1, max_size=most)))


@given(st.lists(windows(), min_size=1, max_size=5), st.booleans())
def test_reasons_do_not_depend_on_the_cases_beside(drawn: list[bytes], adds_up: bool) -> None:  # noqa: FBT001
    """In a batch with any others a case has the reasons that it has alone, bit for bit."""
    evidence = EVIDENCE if adds_up else None
    cases = [Case(one, 9, 0.5 if adds_up else None) for one in drawn]
    together = reasons_of(cases, SIGNALLED, hashed, evidence)
    assert together == [reasons_of([one], SIGNALLED, hashed, evidence)[0] for one in cases]


@settings(max_examples=30)
@given(windows(most=MAX_ACTIONS + 8))
def test_parts_cost_some_tens_of_windows(window: bytes) -> None:
    """One call more, however long the window and however many its parts."""
    asked: list[int] = []

    def counting(asked_of: NDArray[np.void]) -> NDArray[np.float32]:
        asked.append(len(asked_of))
        return hashed(asked_of)

    reasons_of([Case(window, 99)], SIGNALLED, counting)
    assert asked[0] <= MAX_WINDOWS
    assert len(asked) <= 2
    assert sum(asked[1:]) <= MAX_PART_WINDOWS <= 50


def attributed(window: bytes, alert: Alert) -> list[Attribution]:
    """Return what an explanation of an alert of a window says of its actions."""
    found = explain(decode_alert(encode_alert(alert)), SIGNALLED, hashed)
    assert found.score == alert.score
    assert window_of(alert, SIGNALLED) == window
    return found.attributions


@st.composite
def signalled_logs(draw: st.DrawFn) -> list[Entry]:
    """Draw logs whose events carry what the signals read."""
    return [one._replace(fields=draw(FIELDS)) for one in draw(logs())]


@settings(max_examples=40)
@given(signalled_logs())
def test_an_alert_holds_the_signals_that_its_explanation_needs(log: list[Entry]) -> None:
    """From the alert as it lies on the topic comes its very window; the weightiest actions have parts that sum to them."""
    kept: list[bytes] = []

    def keeping(decided: Decided) -> Decided:
        kept.extend(decided.windows)
        return decided

    run = replace(pipeline(hashed, policy=GUARDED, encoding=SIGNALLED), explain=keeping)
    alerts = alerts_of(run.over(Partition(), log, SOURCE, batch_entries=1))
    target(len(alerts))
    for alert, window in zip(alerts, kept, strict=True):
        found = attributed(window, alert)
        heavy = set(weightiest([one.value for one in found]))
        for at, one in enumerate(found):
            assert (one.parts is not msgspec.UNSET) == (at in heavy)
            if one.parts:
                assert fsum(part.value for part in one.parts) == pytest.approx(one.value, abs=1e-9)


def alert_of(window: bytes) -> Alert:
    """Return an alert of a window."""
    (score,) = hashed(SIGNALLED.windows([window])).tolist()
    log_alert = {
        "alert_id": str(SEED), "decision": "BLOCK", "session_id": "s", "account_id": "a", "score": score,
        "threshold": 0.5, "action": "TRANSFER_LARGE", "event_id": "e", "action_number": 2,
        "window": SIGNALLED.actions(window), "gap_ranges_ms": SIGNALLED.gap_ranges_ms(window),
        "signals": SIGNALLED.signals_of(window), "model": {"name": "m", "version": "1", "sha256": "0" * 64},
        "source": {"topic": "t", "partition": 0, "offset": 0}, "occurred_at_ms": 0, "received_at_ms": 0,
        "detected_at_ms": 0,
    }  # fmt: skip
    return msgspec.convert(log_alert, Alert)


@pytest.mark.parametrize(
    ("signals", "seen"),
    [
        (msgspec.UNSET, "no signals of each of the 2 actions"),
        ([[3] * len(SIGNALS)], "no signals of each of the 2 actions"),
        ([[3], [3]], r"the signals \[3\]: expected a code from 1"),
        ([[0] * len(SIGNALS)] * 2, "expected a code from 1"),
        ([[99] * len(SIGNALS)] * 2, "expected a code from 1"),
    ],
)
def test_an_alert_without_its_signals_is_refused(signals: list[list[int]], seen: str) -> None:
    """What does not fit what the model reads is told; nothing is guessed in its place."""
    assert explain(alert_of(WINDOW), SIGNALLED, hashed).alert_id == str(SEED)
    with pytest.raises(NotExplainableError, match=seen):
        explain(msgspec.structs.replace(alert_of(WINDOW), signals=signals), SIGNALLED, hashed)


def test_in_a_sum_each_part_is_worth_its_term() -> None:
    """Where parts do not interact their values are exact, whatever the orders; what the model does not see has none."""
    values = parts_values(WINDOW, SIGNALLED, additive, [0.1875, 0.4375], SEED)
    of_transfer = {one.part: one.value for one in values[1]}
    unusual = "amount 3 or more deviations above the usual, 2.1 times it or more"
    assert of_transfer == pytest.approx(
        {
            unusual: 0.25,
            "device never seen": 0.125,
            "the action itself": 0.0625,
            "hour of under 10 % of its sessions": 0,
            "the gap": 0,
        }
    )
    assert [one.part for one in values[1]][:3] == [unusual, "device never seen", "the action itself"]


@given(windows(), st.uuids())
def test_parts_are_the_same_each_time(window: bytes, seed: uuid.UUID) -> None:
    """The same window, values and seed give the same bits, of PARTED_ACTIONS actions at most."""
    values = [0.3] * (len(window) // SIGNALLED.step_bytes)
    found = parts_values(window, SIGNALLED, hashed, values, seed)
    assert found == parts_values(window, SIGNALLED, hashed, values, seed)
    assert len(found) == min(len(values), PARTED_ACTIONS)


def test_the_explanation_tells_parts_with_their_values() -> None:
    """In words, behind the value of the action that they are a share of."""
    score = float(on_amounts(SIGNALLED.windows([WINDOW]))[0])
    found = explain(msgspec.structs.replace(alert_of(WINDOW), score=score), SIGNALLED, on_amounts)
    (told,) = found.explanation
    assert told.startswith("TRANSFER_LARGE 1 s–1 min after LOGIN: +0.71 (amount 3 or more deviations above")  # noqa: RUF001
    assert "; the action itself: +0." in told
