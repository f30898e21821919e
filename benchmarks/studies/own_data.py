"""What the trainer makes of data of several kinds by its defaults alone, beside n-grams with logistic regression.

Each kind is simulated here, split as the commands split it, and trained on without one option. A thousand more of the
kind test it: of the 60 that a split of 400 leaves, the best F1 alone is luck. It prints ROC-AUC over sessions of both, the F1
at the threshold that the model file carries beside the best there is, and how long training and test took. No default
was chosen by the seeds used here.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from trainer.comparing import compare
from trainer.data.sessions import Categories, Sessions
from trainer.data.splitting import split
from trainer.evaluation.report import markdown_table
from trainer.training.config import TrainingConfig
from trainer.training.pipeline import train

Chain = NDArray[np.float64]
SEED: Final = 2_026
TESTED: Final = 1_000
ATTACKS: Final = 0.1


def chains(actions: int, difference: float, seed: int) -> tuple[Chain, Chain]:
    """Return the transition probabilities of lawful sessions and of attacks, which differ by about so much each."""
    rng = np.random.RandomState(seed)
    lawful = rng.dirichlet(np.full(actions, 5.0), size=actions)
    attack = np.clip(lawful + rng.choice([-1, 1], (actions, actions)) * difference, 0.005, None)
    return lawful, attack / attack.sum(axis=1, keepdims=True)


def walked(
    count: int, lengths: tuple[int, int], share: float, both: tuple[Chain, Chain], seed: int
) -> Sessions:
    """Simulate sessions that are walks along their kind's chain.

    Args:
        count: of sessions.
        lengths: least and most actions.
        share: of attacks.
        both: of lawful sessions and of attacks.
        seed: of the walks.
    """
    rng = np.random.RandomState(seed)
    labels = (rng.permutation(count) < round(share * count)).astype(np.int64)
    long = rng.randint(lengths[0], lengths[1] + 1, count)
    steps = np.stack(both).cumsum(axis=2)
    at = rng.randint(0, len(both[0]), count)
    walks = np.empty((count, lengths[1]), np.uint16)
    for number in range(lengths[1]):
        walks[:, number] = at
        at = np.minimum((rng.random_sample((count, 1)) > steps[labels, at]).sum(axis=1), len(both[0]) - 1)
    return sessions_of([walk[:size] for walk, size in zip(walks, long, strict=True)], labels)


def sessions_of(walks: list[NDArray[np.uint16]], labels: NDArray[np.int64]) -> Sessions:
    """Return sessions without times, by the codes of their actions."""
    lengths = np.array([len(walk) for walk in walks])
    actions = np.concatenate(walks)
    nobody = Categories(("",), np.zeros(len(walks), np.int32))
    return Sessions(
        ids=np.array([f"s{number}" for number in range(len(walks))], object),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        names=tuple(f"ACTION_{code}" for code in range(int(actions.max()) + 1)),
        actions=actions,
        times_ms=None,
        targets=np.repeat(labels, lengths).astype(np.int8),
        types=nobody,
        customer_types=nobody,
    )


def thin(count: int, seed: int) -> Sessions:
    """20 actions say next to nothing, and 1,000 nearly all."""
    return walked(count, (300, 3_000), 0.5, chains(6, 0.03, 7), seed)


def long(count: int, seed: int) -> Sessions:
    """1,000 to 3,000 actions in runs of one and the same, which both kinds have; a few pairs of actions tell."""
    lawful, attack = chains(20, 0.01, 8)
    held = 0.8 * np.eye(20)
    return walked(count, (1_000, 3_000), 0.25, (held + 0.2 * lawful, held + 0.2 * attack), seed)


def small(count: int, seed: int) -> Sessions:
    """Few sessions of 20 to 120 actions."""
    return walked(count, (20, 120), 0.3, chains(12, 0.06, 9), seed)


def copies(count: int, seed: int) -> Sessions:
    """Sessions of which most are copies of others, attacks and lawful ones alike."""
    drawn = small(count // 5, seed)
    return drawn.take(np.random.RandomState(seed).randint(0, len(drawn), count))


def ties(count: int, seed: int) -> Sessions:
    """Three actions, and most lawful sessions and a tenth of the attacks are one of a few."""
    rng = np.random.RandomState(seed)
    labels = (rng.random_sample(count) < ATTACKS).astype(np.int64)
    usual = [(0, 1), (0, 1, 1), (0, 2)]
    walks = [
        np.array(usual[rng.randint(3)] if rng.random_sample() > 0.9 * label else (0, 1, 2, 2, 1), np.uint16)
        for label in labels
    ]
    return sessions_of(walks, labels)


def one_sided(count: int, seed: int) -> Sessions:
    """One attack among 30 sessions."""
    return walked(count, (20, 120), 1 / 30, chains(12, 0.08, 10), seed)


KINDS: Final[dict[str, tuple[Callable[[int, int], Sessions], int]]] = {
    "thin evidence, 1,000": (thin, 1_000),
    "long, 400": (long, 400),
    "small, 200": (small, 200),
    "small, 1,200": (small, 1_200),
    "copies, 3,000": (copies, 3_000),
    "ties, 4,000": (ties, 4_000),
    "one-sided, 10 of 300": (one_sided, 300),
}


def rows(chosen: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Train and test, kind by kind."""
    for name in chosen:
        kind, count = KINDS[name]
        parts, config = split(kind(count, SEED))._replace(test=kind(TESTED, SEED + 1)), TrainingConfig()
        ngrams = next(compare(config, parts, ())).figures.estimates
        begun_s = time.monotonic()
        own = train(config, parts).figures.estimates
        took = f"{time.monotonic() - begun_s:.0f} s"
        figures = (ngrams["roc_auc"], own["roc_auc"], own["f1"], own["best_f1"])
        yield name, *(f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in figures), took


@click.command(help=__doc__)
@click.argument(
    "kinds",
    type=click.Choice(list(KINDS)),
    nargs=-1,
    metavar="[KIND]...",
    help=f"Each in quotes, of: {'; '.join(KINDS)}. All unless given.",
)
def main(kinds: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    header = ("sessions", "n-grams: ROC-AUC", "default: ROC-AUC", "F1 at its threshold", "best F1", "took")
    for line in markdown_table(header, rows(kinds or list(KINDS))):
        print(line, flush=True)


if __name__ == "__main__":
    main()
