"""What a model file says of what it saw is what a detector counts of the same sessions."""

import numpy as np
import pytest

from detector.core.decision import Policy
from detector.core.drift import NOTHING, Watched
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.staging import Entry
from detector.model.artifact import default_model_path, load_model
from producer.behaviour import realistic
from producer.behaviour.interleave import interleave
from trainer.data.simulated import simulated
from trainer.evaluation.scoring import score_with_model
from trainer.training.reference import reference_of

IDLE_MS = 1_800_000


def test_shares_are_those_that_the_pipeline_counts() -> None:
    """Of the same sessions one after another, with attacks as common as they are among them."""
    model = load_model(default_model_path())
    drawn = list(realistic.sessions(400, 3))
    sessions = simulated(iter(drawn))
    scored = score_with_model(model, sessions, IDLE_MS)
    reference = reference_of(scored, model.encoding, model.threshold, float(sessions.labels.mean()))

    begins_ms = np.cumsum([session.duration_ms + 60_000 for session in drawn]).tolist()
    events = interleave(zip([0, *begins_ms], drawn, strict=False), start_ms=1_700_000_000_000)
    memo = ScoreMemo(model.encoding, model.score)
    pipeline = Pipeline(
        encoding=model.encoding,
        score=memo.of,
        policy=Policy(model.threshold, model.reference),
        limits=SessionLimits(IDLE_MS),
        evidence=model.evidence,
        watched=Watched(reference, model.threshold),
    )
    entries = [Entry(offset, event.occurred_at_ms, event) for offset, event in enumerate(events)]
    counted = sum((one.tally for one in pipeline.over(Partition(), entries, ("in", 0))), NOTHING)
    assert counted.events == len(sessions.actions)
    assert counted.counts.keys() == reference.shares.keys()
    for name, shares in reference.shares.items():
        assert (counted.counts[name] / counted.events).tolist() == pytest.approx(shares, abs=2e-6), name
