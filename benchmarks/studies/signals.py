"""What a model that reads signals makes of how long it has known an account, on lives of customers never trained on.

First, of each seed, the figures of the whole test by session and by attack (one is blocked if one of its sessions is), at
exactly 0.1 % and 0.01 % false alarms per lawful session. Then, of the first seed, the same sessions with a history of so
many days, at the model's own threshold: signals of each two days are computed with what the accounts did in so many days
before them, and nothing else.
"""

from collections.abc import Iterator, Sequence

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import model_argument
from detector.model.artifact import Model
from producer.behaviour.lives.hours import DAY_MS
from producer.behaviour.lives.stream import LivesBehaviour
from trainer.data.observing import Loss, with_signals
from trainer.data.sessions import Sessions, together_in
from trainer.data.simulated import BEGIN_MS, LIFE_DAYS, WARM_UP_DAYS, after_warm_up, lived
from trainer.evaluation.course import Course, Money
from trainer.evaluation.intervals import wilson
from trainer.evaluation.report import markdown_table
from trainer.evaluation.scoring import Scored, score_with_model
from trainer.evaluation.thresholds import threshold_for

BUDGETS = (0.001, 0.0001)
HISTORIES_DAYS = (1, 7, 30)
SEGMENT_DAYS = 2


def of_attacks(flags: NDArray[np.bool_], scored: Scored) -> NDArray[np.bool_]:
    """Return for each attack whether one of its sessions is flagged."""
    ids, attack = scored.sessions.attack_ids, scored.labels == 1
    if ids is None:
        raise ValueError("sessions without attack ids: expected those of lives")
    codes = np.unique(ids.codes[attack], return_inverse=True)[1]
    return np.bincount(codes, flags[attack]) > 0


def figures(scored: Scored, threshold: float, money: Money) -> tuple[str, ...]:
    """Return recall by session and by attack, before and on the last large transfer, over several, and false alarms."""
    course = Course.of(scored, threshold, money)
    attack = course.attack
    counted = (
        course.blocked[attack],
        of_attacks(course.blocked, scored),
        course.before_last_large[course.has_money],
        course.by_last_large[course.has_money],
        course.before_first_large[course.ends_several],
        course.blocked[~attack],
    )
    rates = ((one.mean(), *wilson(int(one.sum()), len(one))) for one in counted)
    return tuple(f"{rate:.2%} ({low:.2%} to {high:.2%})" for rate, low, high in rates)


def with_history(whole: Sessions, model: Model, idle_ms: int, days: int) -> Sessions:
    """Return the sessions after the warm-up, each with what its account did in so many days before, or nothing."""
    if not days:
        return _late(with_signals(whole, model.encoding, idle_ms, Loss(1.0, 0, 1.0)), WARM_UP_DAYS)
    begins_ms = _begins_ms(whole)
    pieces = []
    for day in range(WARM_UP_DAYS, WARM_UP_DAYS + LIFE_DAYS, SEGMENT_DAYS):
        since_ms, until_ms = BEGIN_MS + (day - days) * DAY_MS, BEGIN_MS + (day + SEGMENT_DAYS) * DAY_MS
        near = whole.take(np.flatnonzero((begins_ms >= since_ms) & (begins_ms < until_ms)))
        pieces.append(_late(with_signals(near, model.encoding, idle_ms), day))
    return together_in(*pieces)


def _begins_ms(sessions: Sessions) -> NDArray[np.int64]:
    times_ms: NDArray[np.int64] = sessions.times_ms[sessions.starts[:-1]]  # type: ignore[index]  # lives have times
    return times_ms


def _late(sessions: Sessions, day: int) -> Sessions:
    return sessions.take(np.flatnonzero(_begins_ms(sessions) >= BEGIN_MS + day * DAY_MS))


def rows(model: Model, count: int, seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Simulate, score and judge, seed by seed."""
    money, idle_ms = Money.of(model.metadata), model.idle_timeout_ms
    fields, signals = model.encoding.signals.fields, model.metadata.signals
    for seed in seeds:
        whole = lived(count, seed, LivesBehaviour(), fields)
        scored = score_with_model(model, after_warm_up(whole, signals, idle_ms), idle_ms)
        lawful = scored.highest()[scored.labels == 0]
        told = f"seed {seed}, {len(lawful):,} lawful, {len(scored.sessions) - len(lawful):,} of attackers"
        for budget in BUDGETS:
            yield f"{told}, {budget:.2%}", *figures(scored, threshold_for(lawful, budget), money)
        yield f"{told}, its own threshold", *figures(scored, model.threshold, money)
        if seed == seeds[0]:
            for days in (0, *HISTORIES_DAYS):
                scored = score_with_model(model, with_history(whole, model, idle_ms, days), idle_ms)
                yield f"… {days} days of history", *figures(scored, model.threshold, money)


@click.command(help=__doc__)
@model_argument(default="history")
@click.argument("sessions", type=click.IntRange(min=1_000), default=60_000, help="60,000 unless given.")
@click.argument("seeds", type=click.IntRange(min=0), nargs=-1, help="Of simulations; 4001 unless given.")
def main(model: Model, sessions: int, seeds: tuple[int, ...]) -> None:
    """Print a Markdown table."""
    header = (
        "",
        "by session",
        "by attack",
        "before the last large transfer",
        "on it",
        "several, before",
        "false alarms",
    )
    for line in markdown_table(header, rows(model, sessions, seeds or [4_001])):
        print(line, flush=True)


if __name__ == "__main__":
    main()
