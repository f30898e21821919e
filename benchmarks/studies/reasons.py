"""The reasons that an alert carries: held against exact Shapley values, and what they cost.

First table: alerts of the packaged model on realistic traffic, by several ways to values from few windows. How often
the first reason is the exact values' first, and one of their first three; how much of the first three is the same; how
far values are off; how many windows an alert asks for. Beyond 13 actions the estimate from 8,192 coalitions stands for
the exact values. Second table: a batch of accounts denied in a mass, by the time an alert, to that of exact values or
their estimate. Third: the share of reasons in a pass over the log (stage to reason, without Kafka).
"""

import itertools
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import rounds_argument
from benchmarks.timing import spread, timed
from detector.contract.alerts import Alert, Cause, Decision, SourcePosition, alert_id
from detector.core import explaining
from detector.core.breaker import BreakerState
from detector.core.decision import Decided
from detector.core.encoding import STEP_BYTES
from detector.core.explaining import shapley_values
from detector.core.judging import AlertedSessions
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.reasons import EXACT_ACTIONS, scored, values_of, windows_of, with_reasons
from detector.core.shapley import estimated_values, layers
from detector.core.staging import Entry
from detector.model.artifact import Model, default_model_path, load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.realistic import RealisticBehaviour, sessions
from producer.behaviour.session import stream

_SESSIONS = 12_000
_ALERTS = 600
_FEW = 100
_DENIED = 5_000
_DENIED_ACTIONS = 15
_EXPLAINED = 100
_START_MS = 1_790_000_000_000

Values = Callable[[Model, bytes], tuple[list[float], int]]
"""The values of a window's actions, and how many windows were scored for them."""


def steps_of(window: bytes) -> list[bytes]:
    """Return the steps of a window."""
    return [window[at : at + STEP_BYTES] for at in range(0, len(window), STEP_BYTES)]


def leaving_out(model: Model, window: bytes) -> tuple[list[float], int]:
    """Take what the score loses without each action."""
    steps = steps_of(window)
    asked = [window, *(b"".join(steps[:at] + steps[at + 1 :]) for at in range(len(steps)))]
    whole, *without = scored(asked, model.encoding, model.score)
    return [whole - one for one in without], len(asked)


def by_permutations(model: Model, window: bytes) -> tuple[list[float], int]:
    """Take the mean gains of the actions' own order, the reverse, and further pairs as far as they fit."""
    steps, rng = steps_of(window), np.random.RandomState(1)
    count = len(steps)
    orders = [list(range(count)), list(range(count))[::-1]]
    while (len(orders) + 2) * (count - 1) + 2 <= _FEW:
        drawn = rng.permutation(count).tolist()
        orders += [drawn, drawn[::-1]]
    asked = [
        b"".join(steps[at] for at in sorted(order[:size])) for order in orders for size in range(count + 1)
    ]
    scores = np.array(scored(asked, model.encoding, model.score)).reshape(-1, count + 1)
    values = np.zeros(count)
    for order, gains in zip(orders, np.diff(scores, axis=1), strict=True):
        values[order] += gains / len(orders)
    return values.tolist(), len(orders) * (count - 1) + 2


def by_kernel(model: Model, window: bytes) -> tuple[list[float], int]:
    """Fit Kernel SHAP to what fits beside the scores after each action."""
    steps = steps_of(window)
    if len(steps) <= EXACT_ACTIONS:
        return as_shipped(model, window)
    sampled = list(layers(len(steps), uuid.UUID(int=1), _FEW - len(steps)))
    rows = itertools.chain.from_iterable(layer.members.tolist() for layer in sampled)
    asked = [b"", window, *(b"".join(itertools.compress(steps, row)) for row in rows)]
    baseline, whole, *scores = scored(asked, model.encoding, model.score)
    return estimated_values(np.array(scores), sampled, baseline, whole), len(asked) + len(steps) - 2


def as_shipped(model: Model, window: bytes) -> tuple[list[float], int]:
    """Take the values that the alert's reasons are made of."""
    asked = windows_of(window, STEP_BYTES)
    answers = scored(asked, model.encoding, model.score)
    return values_of(answers, len(window) // STEP_BYTES), len(asked)


WAYS: dict[str, Values] = {
    "leaving each out": leaving_out,
    "permutations in pairs": by_permutations,
    "Kernel SHAP, exact up to 6 actions": by_kernel,
    "as shipped": as_shipped,
}


def log_of(count: int, number: int) -> list[Entry]:
    """Simulate realistic traffic, one attack in ten sessions."""
    simulated = sessions(count, number, RealisticBehaviour(attack_rate=0.1))
    planned = schedule(simulated, live_sessions=200, rng=stream(1, "schedule"))
    return [
        Entry(offset, event.occurred_at_ms, event)
        for offset, event in enumerate(interleave(planned, start_ms=_START_MS))
    ]


def windows_that_alert(model: Model, number: int) -> list[bytes]:
    """Return the windows of some alerts."""
    windows: list[bytes] = []

    def keeping(decided: Decided) -> Decided:
        windows.extend(decided.windows)
        return decided

    run = replace(processor_of(model, DetectorConfig()).pipeline, explain=keeping)
    for _ in run.over(Partition(), log_of(_SESSIONS, number), ("actions", 0)):
        pass
    return windows[:_ALERTS]


def agreement(model: Model, number: int = 11) -> Table:
    """Hold ways to values against exact ones."""
    windows = windows_that_alert(model, number)
    with patch.object(explaining, "EXACT_ACTIONS", 13), patch.object(explaining, "MAX_COALITIONS", 2**13):
        exact = [shapley_values(one, model.encoding, model.score, uuid.UUID(int=7)).values for one in windows]
    longer = [at for at, values in enumerate(exact) if len(values) > EXACT_ACTIONS]
    title = f"{len(windows)} alerts, traffic of seed {number}; in brackets the {len(longer)} of more than {EXACT_ACTIONS} actions"
    table = Table(title=title)
    for column in (
        "values",
        "same first",
        "first of first three",
        "same first three",
        "mean error",
        "windows: mean, most",
    ):
        table.add_column(column, justify="right")
    for name, way in WAYS.items():
        found = [way(model, one) for one in windows]
        figures = [_figures(values, right) for (values, _), right in zip(found, exact, strict=True)]
        every, long = np.array(figures), np.array([figures[at] for at in longer])
        costs = [cost for _, cost in found]
        shares = [
            f"{100 * one:.1f} % ({100 * other:.1f} %)"
            for one, other in zip(every.mean(0)[:3], long.mean(0)[:3], strict=True)
        ]
        table.add_row(
            name,
            *shares,
            f"{every[:, 3].mean():.3f} ({long[:, 3].mean():.3f})",
            f"{statistics.mean(costs):.0f}, {max(costs)}",
        )
    return table


def _figures(values: Sequence[float], exact: Sequence[float]) -> tuple[float, float, float, float]:
    ours, theirs = (sorted(range(len(exact)), key=lambda at, of=of: -abs(of[at])) for of in (values, exact))  # type: ignore[misc]
    three = min(3, len(exact))
    return (
        float(ours[0] == theirs[0]),
        float(ours[0] in theirs[:3]),
        len(set(ours[:3]) & set(theirs[:3])) / three,
        float(np.abs(np.array(values) - exact).mean()),
    )


def denied(model: Model) -> Iterator[tuple[Alert, bytes]]:
    """Yield alerts of sessions of lawful actions, whose accounts were listed."""
    drawn: list[bytes] = []
    for session in sessions(400_000, 5):
        for action, gap_ms in zip(session.actions, session.gaps_ms, strict=True):
            if action != "LOGOUT":
                drawn.append(model.encoding.step(action, gap_ms if drawn else None))
        if len(drawn) < _DENIED_ACTIONS:
            continue
        window, drawn = b"".join(drawn[:_DENIED_ACTIONS]), []
        actions = model.encoding.actions(window)
        yield Alert(
            alert_id=alert_id(session.session_id, "e"), decision=Decision.BLOCK, session_id=session.session_id,
            account_id=session.account_id, score=0.0, threshold=model.threshold, action=actions[-1], event_id="e",
            action_number=_DENIED_ACTIONS, window=actions, gap_ranges_ms=model.encoding.gap_ranges_ms(window),
            model=model.reference, source=SourcePosition(topic="t", partition=0, offset=0), occurred_at_ms=0,
            received_at_ms=0, detected_at_ms=0, cause=Cause.DENY_LIST,
        ), window  # fmt: skip


def mass(model: Model, rounds: int) -> Table:
    """Measure the reasons of accounts denied in a mass, beside what their explanation would take."""
    alerts, windows = zip(*itertools.islice(denied(model), _DENIED), strict=True)
    decided = Decided(
        list(alerts),
        list(windows),
        Counter(),
        {},
        BreakerState(),
        0,
        Counter(),
        AlertedSessions({}, 0, 0, {}),
    )
    took_s, ratios = [], []
    for _ in range(rounds):
        memo = ScoreMemo(model.encoding, model.score)
        took_s.append(timed(partial(with_reasons, decided, model.encoding, memo)))
        explained_s = timed(lambda: [
            shapley_values(one, model.encoding, model.score, uuid.UUID(int=1)) for one in windows[:_EXPLAINED]
        ])  # fmt: skip
        ratios.append((explained_s / _EXPLAINED) / (took_s[-1] / _DENIED))
    table = Table(
        title=f"{_DENIED:,} alerts of {_DENIED_ACTIONS} actions in one batch, {rounds} rounds: median (lowest to highest)"
    )
    for column in ("seconds", "ms an alert", "explaining one, to its reasons"):
        table.add_column(column, justify="right")
    table.add_row(spread(took_s), spread([one * 1000 / _DENIED for one in took_s]), spread(ratios, 0))
    return table


def share(model: Model, rounds: int) -> Table:
    """Measure the share of reasons in a pass over simulated sessions."""
    log = log_of(_SESSIONS, 5)

    def replay(*, explains: bool) -> int:
        pipeline = processor_of(model, DetectorConfig(), explains=explains).pipeline
        return sum(len(one.alerts) for one in pipeline.over(Partition(), log, ("actions", 0)))

    table = Table(title=f"A pass over {len(log):,} events, {rounds} rounds: median (lowest to highest)")
    for column in ("alerts", "with reasons, to without"):
        table.add_column(column, justify="right")
    ratios = []
    for _ in range(rounds):
        without_s = timed(partial(replay, explains=False))
        ratios.append(timed(partial(replay, explains=True)) / without_s)
    table.add_row(f"{replay(explains=False):,}", spread(ratios))
    return table


@click.command(help=__doc__)
@rounds_argument()
def main(rounds: int) -> None:
    """Measure and print."""
    model = load_model(default_model_path())
    console = Console(width=160)
    for table in (agreement(model), agreement(model, 31), mass(model, rounds), share(model, rounds)):
        console.print(table)


if __name__ == "__main__":
    main()
