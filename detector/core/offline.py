"""The core run over a log at rest: what the alerts of a partition must be, whoever computes them."""

import itertools
from collections.abc import Callable, Iterable, Iterator

from detector.contract.alerts import Alert
from detector.core.decision import Policy, decide
from detector.core.encoding import Encoding
from detector.core.partition import Partition
from detector.core.reasons import Score, with_reasons
from detector.core.shadowing import Challenger, shadowed
from detector.core.staging import Entry, SessionLimits, stage


def detect(
    entries: Iterable[Entry],
    *,
    source: tuple[str, int],
    encoding: Encoding,
    score: Score,
    policy: Policy,
    limits: SessionLimits,
    now_ms: Callable[[], int],
    partition: Partition | None = None,
    batch_events: int = 2_000,
    challenger: Challenger | None = None,
    shadow_alert: Callable[[Alert], object] = lambda _: None,
) -> Iterator[Alert]:
    """Yield the alerts of one partition's log, in order.

    Args:
        entries: in the order of the log; what would be dead-lettered is left out before.
        source: topic and partition of the events.
        encoding: of the model.
        score: windows of shape (n, window), dtype STEP_DTYPE, to n scores.
        policy: threshold and model.
        limits: of sessions.
        now_ms: the clock for `detected_at_ms`.
        partition: live sessions to go on from; changed. A new one without it.
        batch_events: how many events are scored at once; changes nothing but the speed.
        challenger: scores the same windows in shadow.
        shadow_alert: called with each alert of its.
    """
    partition = Partition() if partition is None else partition
    remaining = iter(entries)
    while batch := list(itertools.islice(remaining, batch_events)):
        staged = stage(partition, batch, encoding, limits)
        windows = encoding.windows([candidate.steps for candidate in staged.candidates])
        scores = score(windows).tolist()
        decided = decide(
            partition,
            staged,
            scores,
            policy=policy,
            encoding=encoding,
            source=source,
            next_offset=batch[-1].offset + 1,
            now_ms=now_ms,
        )
        if challenger is not None:
            decided = shadowed(
                decided,
                partition,
                staged,
                challenger,
                champion_scores=scores,
                champion=policy,
                encoding=encoding,
                source=source,
                now_ms=now_ms,
            )
        partition.apply(decided.delta)
        for alert in decided.shadowed.alerts if decided.shadowed else ():
            shadow_alert(alert)
        yield from with_reasons(decided, encoding, score).alerts
