"""The breaker in front of the packaged model: what a wave of attacks loses of its blocks (ADR 0036)."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from detector.contract.alerts import Decision
from detector.core.breaker import BreakerLimits
from detector.core.decision import Policy
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.staging import Entry
from detector.model.artifact import Model, load_model, packaged_model_path
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.realistic import RealisticBehaviour, sessions
from producer.behaviour.session import stream

SOURCE = ("session-actions", 0)
BREAKER = BreakerLimits(max_block_share=0.25, min_blocks=100, window_ms=600_000, probation_sessions=500)
BEGIN_MS = 1_790_000_000_000
PROVEN_BY = 3_000
"""Lawful days before the wave, in sessions: the probation, and what begins in a window at three sessions a second."""


@pytest.fixture(scope="module")
def model() -> Model:
    """Load the packaged default."""
    return load_model(packaged_model_path("default"))


def traffic(parts: list[tuple[int, float]], live_sessions: int, seed: int) -> Iterator[Entry]:
    """Yield the events of so many sessions with such a share of attacks, part after part."""
    drawn = itertools.chain.from_iterable(
        sessions(count, seed + at, RealisticBehaviour(attack_rate=share))
        for at, (count, share) in enumerate(parts)
    )
    scheduled = schedule(drawn, live_sessions=live_sessions, rng=stream(seed, "schedule"))
    for offset, event in enumerate(interleave(scheduled, start_ms=BEGIN_MS)):
        yield Entry(offset, event.occurred_at_ms, event)


def blocked(model: Model, log: list[Entry], breaker: BreakerLimits | None) -> set[str]:
    """Return the sessions that are blocked."""
    memo = ScoreMemo(model.encoding, model.score)
    policy = Policy(model.threshold, model.reference, breaker=breaker, epoch=b"new")
    runs = Pipeline(encoding=model.encoding, score=memo.of, policy=policy, limits=SessionLimits())
    return {
        alert.session_id
        for outcome in runs.over(Partition(), log, SOURCE)
        for alert in outcome.alerts
        if alert.decision is Decision.BLOCK
    }


@pytest.mark.parametrize(
    ("parts", "live_sessions"),
    [
        ([(PROVEN_BY, 0.001), (1_000, 0.3)], 200),  # some three sessions a second
        ([(PROVEN_BY, 0.001), (1_000, 0.3)], 3),  # a quiet partition: some ten in the breaker's window
        ([(PROVEN_BY, 0.001), (20, 1.0), (1_000, 0.3)], 3),  # … with twenty sessions from outside before
        ([(PROVEN_BY, 0.001), (20, 1.0), (1_000, 0.3)], 200),
        ([(PROVEN_BY, 0.001), (1_000, 0.6)], 200),  # twice as large a wave
    ],
)
def test_a_wave_under_a_proven_model_keeps_its_blocks(
    model: Model, parts: list[tuple[int, float]], live_sessions: int
) -> None:
    """At 30 % attacks it loses none; at 60 %, of those near the threshold, at most one in six, which is challenged."""
    log = list(traffic(parts, live_sessions, seed=7))
    wanted, held = blocked(model, log, None), blocked(model, log, BREAKER)
    assert len(wanted) > 200
    assert held <= wanted
    lost = len(wanted - held) / len(wanted)
    assert lost <= (0 if parts[-1][1] < 0.5 else 1 / 6)


def test_a_wave_on_probation_is_challenged(model: Model) -> None:
    """The price of the probation, told: a model that is put in service in the middle of a wave blocks few of it."""
    log = list(traffic([(1_000, 0.3)], 200, seed=7))
    wanted, held = blocked(model, log, None), blocked(model, log, BREAKER)
    assert 10 < len(held) < len(wanted) / 4
    assert blocked(model, log, replace(BREAKER, probation_sessions=0)) == wanted
