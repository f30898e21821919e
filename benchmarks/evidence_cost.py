"""What evidence costs the core: the same model and log with it and without, in turns in one process, by processor time.

    PYTHONPATH=. python benchmarks/evidence_cost.py [EVENTS] [ROUNDS]

As shipped, with the memo of scores, and with a model that costs nothing; bytes are those of a session's packed state.
"""

import statistics
import sys
import time

import numpy as np

from benchmarks.core import values_of
from detector.contract.events import decode_event
from detector.core.decision import Policy
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Pipeline
from detector.core.reasons import Score
from detector.core.staging import Entry
from detector.model.artifact import load_model, packaged_model_path

_LIVE = 1_000
_EVIDENCE = Evidence(window_weight=1, bias=0, logit_weight=0.1, drift=-0.01, floor=-2, scale_actions=50)


def run(events: int, rounds: int) -> None:
    """Measure, and print the ratios of the rounds: median, lowest and highest."""
    model = load_model(packaged_model_path("default"))
    log = [
        Entry(offset, 1_790_000_000_000, decode_event(value))
        for offset, value in enumerate(values_of(_LIVE, events, 0))
    ]

    def measure(score: Score, evidence: Evidence | None) -> tuple[float, float]:
        partition = Partition()
        pipeline = Pipeline(
            encoding=model.encoding,
            score=ScoreMemo(model.encoding, score).of,
            policy=Policy(1.0, model.reference),
            limits=SessionLimits(),
            evidence=evidence,
        )
        began_s = time.process_time()
        for _ in pipeline.over(partition, log, ("benchmark", 0)):
            pass
        took_s = time.process_time() - began_s
        return events / took_s, statistics.mean(map(len, partition.sessions.values()))

    def nothing(windows: np.ndarray) -> np.ndarray:
        return np.zeros(len(windows), np.float32)

    for name, score in (("default model", model.score), ("a model that costs nothing", nothing)):
        ratios, sizes = [], (0.0, 0.0)
        for _ in range(rounds):
            (without, before), (with_, after) = measure(score, None), measure(score, _EVIDENCE)
            ratios.append(with_ / without)
            sizes = before, after
        print(
            f"{name}: {statistics.median(ratios):.3f} of the events/s without it "
            f"({min(ratios):.3f} to {max(ratios):.3f}, {rounds} rounds; last {without:,.0f} and {with_:,.0f}); "
            f"{sizes[0]:.1f} and {sizes[1]:.1f} bytes a session"
        )


if __name__ == "__main__":
    run(*(int(one) for one in (sys.argv[1:] + ["100000", "9"][len(sys.argv) - 1 :])))
