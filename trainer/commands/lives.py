"""Lives to train on, as the packaged model of histories is trained: with lost histories, and edits among the attacks."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import click

from detector.contract.actions import ENDS_SESSION
from detector.core.signals import Signal
from producer.behaviour.lives.stream import LivesBehaviour
from trainer.data.observing import LOSS
from trainer.data.sessions import Splits
from trainer.data.simulated import LIFE_DAYS, WARM_UP_DAYS, lived, lives_splits
from trainer.evaluation.course import BUILT_IN
from trainer.evaluation.evasion import some_edited, usual_edits

EDITED: Final = 0.3
"""Of the attacks trained on, those that do what attackers can do otherwise."""
EDITS_SESSIONS: Final = 5_000
"""In whose words edits are."""


def lives_parts(
    sessions: int,
    seed: int,
    signals: Sequence[Signal],
    idle_timeout_ms: int,
    left_out: Sequence[str] = (),
) -> Splits:
    """Simulate lives, and say how many sessions they gave.

    Args:
        sessions: to train on, about.
        seed: of the simulation.
        signals: to compute.
        idle_timeout_ms: a session without an action for longer begins anew.
        left_out: attack families that are in the test part alone.
    """
    sample = lived(EDITS_SESSIONS, seed, LivesBehaviour(), ())
    edits = usual_edits(sample, BUILT_IN, ENDS_SESSION, idle_timeout_ms)
    changed = partial(some_edited, edits=edits, share=EDITED, seed=seed)
    parts = lives_splits(
        sessions,
        seed,
        signals=signals,
        idle_timeout_ms=idle_timeout_ms,
        loss=LOSS,
        left_out=left_out,
        changed=changed,
    )
    click.echo(
        f"lives of {LIFE_DAYS} days: {len(parts.train):,} sessions to train on, {len(parts.valid):,} for the threshold, "
        f"{len(parts.test):,} for the figures; the {WARM_UP_DAYS} days before them are history alone",
        err=True,
    )
    return parts
