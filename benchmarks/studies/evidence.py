"""Ways for a session's score to use all of it, held against the highest window alone, on thin evidence.

Sessions of 300 to 3,000 actions that are walks along two chains which differ by a few per cent (`own_data.thin`): 600 to
learn from, 200 to fit and to choose a threshold by, 1,000 to test. The network of windows is trained as it is by default,
and its highest window, and what `trainer.training.evidence` makes of its windows, are judged. Beside it a network of
the same size whose state is carried from a session's first action on, trained on as many steps of as many actions by
backpropagation through time that is cut every 32 (Williams and Peng 1990). It prints ROC-AUC by the last and by the highest
score, the share of attacks caught at 1 % false alarms a session, and the bytes that a session takes beside its window.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from benchmarks.studies.own_data import chains, walked
from detector.core.encoding import Encoding
from detector.model.scorer import Scorer
from trainer.data.sessions import Sessions, Splits
from trainer.evaluation.scoring import score_sessions
from trainer.training.backend import keras_on
from trainer.training.config import TrainingConfig
from trainer.training.pipeline import train

CHUNK: Final = 32
TOGETHER: Final = 64
UNITS: Final = 32
EMBEDDING_UNITS: Final = 16


def batches(sessions: Sessions, size: int, rng: np.random.RandomState) -> Iterator[tuple[Any, Any, Any]]:
    """Yield sessions of about one length: their numbers, their codes from 1, padded with 0, and what is no padding."""
    order = np.argsort(sessions.lengths + 200 * rng.random_sample(len(sessions)))
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    for at in rng.permutation(len(groups)):
        group = groups[at]
        width = -(-int(sessions.lengths[group].max()) // CHUNK) * CHUNK
        codes = np.zeros((len(group), width), np.int32)
        for row, number in enumerate(group.tolist()):
            begin, end = sessions.starts[number : number + 2]
            codes[row, : end - begin] = sessions.actions[begin:end].astype(np.int32) + 1
        yield group, codes, (codes > 0).astype(np.float32)


def carried_scores(learned: Sessions, tested: Sessions, actions: int, steps: int) -> NDArray[np.float32]:
    """Train a network whose state is carried on; return its logit after each action of the tested sessions."""
    keras = keras_on("cpu", 1)
    import tensorflow as tf  # noqa: PLC0415  after its environment is set

    layers = keras.layers
    codes, hidden, cell = keras.Input((CHUNK,), dtype="int32"), keras.Input((UNITS,)), keras.Input((UNITS,))
    embedded = layers.Embedding(actions + 1, EMBEDDING_UNITS)(codes)
    lstm = layers.LSTM(UNITS, return_sequences=True, return_state=True, unroll=True)
    every, hidden_after, cell_after = lstm(embedded, initial_state=[hidden, cell])
    network = keras.Model([codes, hidden, cell], [layers.Dense(1)(every)[..., 0], hidden_after, cell_after])
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps), clipnorm=1.0)

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def step(read: Any, state: Any, target: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            logits, *after = network([read, *state], training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
            loss = tf.reduce_sum(weight * losses) / (tf.reduce_sum(weight) + 1e-6)
        weights = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return after

    @tf.function(jit_compile=False)  # type: ignore[untyped-decorator]
    def scored(read: Any, state: Any) -> Any:
        logits, *after = network([read, *state], training=False)
        return logits, after

    rng, done = np.random.RandomState(1), 0
    while done < steps:
        for group, read, real in batches(learned, TOGETHER, rng):
            state: Any = [np.zeros((len(group), UNITS), np.float32)] * 2
            target = np.repeat(learned.labels[group, np.newaxis].astype(np.float32), CHUNK, axis=1)
            for at in range(0, read.shape[1], CHUNK):
                part = slice(at, at + CHUNK)
                state = step(read[:, part], state, target, real[:, part])
                done += 1
    logits = np.empty(len(tested.actions), np.float32)
    for group, read, _ in batches(tested, 250, rng):
        state = [np.zeros((len(group), UNITS), np.float32)] * 2
        found = []
        for at in range(0, read.shape[1], CHUNK):
            made, state = scored(read[:, at : at + CHUNK], state)
            found.append(made.numpy())
        for number, row in zip(group.tolist(), np.concatenate(found, axis=1), strict=True):
            begin, end = tested.starts[number : number + 2]
            logits[begin:end] = row[: end - begin]
    return logits


@click.command(help=__doc__)
@click.argument(
    "steps", type=click.IntRange(min=1), default=14_000, help="Of the network beside, 14,000 unless given."
)
def main(steps: int) -> None:
    """Train, and print the table."""
    both = chains(6, 0.03, 7)
    parts = Splits(
        *(walked(size, (300, 3_000), 0.5, both, seed) for seed, size in enumerate((600, 200, 1_000), 1))
    )
    table = Table("what is judged", "ROC-AUC, last score", "ROC-AUC, highest", "caught at 1 % false alarms", "bytes a session", "trained in")  # fmt: skip
    tested = parts.test
    attack = tested.labels == 1

    def row(name: str, scores: NDArray[Any], size: str, took_s: float) -> None:
        highest = np.maximum.reduceat(scores, tested.starts[:-1])
        last = scores[tested.starts[1:] - 1]
        caught = (
            highest[attack] >= np.nextafter(np.sort(highest[~attack])[-1 - (~attack).sum() // 100], np.inf)
        ).mean()
        areas = (f"{roc_auc_score(attack, one):.4f}" for one in (last, highest))
        table.add_row(name, *areas, f"{caught:.1%}", size, f"{took_s:.0f} s")

    begun_s = time.monotonic()
    trained = train(TrainingConfig(members=1, bigrams=False), parts)
    took_s = time.monotonic() - begun_s
    told = trained.metadata
    encoding = Encoding(told.vocabulary, told.window, unknown_token=True)
    windows = score_sessions(Scorer(trained.file).score, encoding, tested, 1_800_000)
    row("the highest window", windows.scores, "0", took_s)
    row(f"what windows add up to: {told.evidence}", trained.test.scores, "16", took_s)
    begun_s = time.monotonic()
    logits = carried_scores(parts.train, tested, 6, steps)
    row("the network's state, carried on", logits, str(2 * 4 * UNITS), time.monotonic() - begun_s)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
