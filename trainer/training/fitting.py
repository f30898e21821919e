"""Fitting: batches drawn as they are needed, the validation loss looked at every so many steps, the best weights kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.windows import Examples, Shown
from trainer.training.network import Shape, Tensors, build_network, inputs_of, scoring_place

_VALID_CHUNK: Final = 4_096
_SAMPLE: Final = 4_096
_CLIP_NORM: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How a network is fitted.

    Attributes:
        steps: at most, each of one batch.
        batch_size: windows a step.
        learning_rate: of Adam at the start, falling along a cosine.
        final_share: of the learning rate, left at the last step.
        patience: steps without a better validation loss before the end; None goes on to the last.
        at_least: steps before patience may end it.
        validate_every: steps.
        unknown_share: of the training actions, replaced by the unknown token so that it is learned.
    """

    steps: int
    batch_size: int
    learning_rate: float = 4e-3
    final_share: float = 0.0
    patience: int | None = None
    at_least: int = 0
    validate_every: int = 250
    unknown_share: float = 0.005
    seed: int = 1


class Observer(Protocol):
    def on_step(self, done: int, of: int) -> None: ...
    def on_validation(self, step: int, loss: float, valid_loss: float) -> None: ...


class Fitted(NamedTuple):
    tensors: Tensors
    parameters: int
    step: int
    loss: float
    network: Any


def fit(keras: Any, shape: Shape, encoding: Encoding, train: Examples, valid: Shown, schedule: Schedule, observer: Observer) -> Fitted:
    import tensorflow as tf  # noqa: PLC0415

    network = build_network(keras, shape, encoding)
    optimizer = keras.optimizers.Adam(schedule.learning_rate, clipnorm=_CLIP_NORM)
    optimizer.build(network.trainable_variables)
    window = encoding.window
    step_spec = [tf.TensorSpec([None, window], tf.int32)] * (2 if encoding.gap_bounds_ms else 1)
    real = tf.TensorSpec([None, window], tf.float32)

    @tf.function(input_signature=[step_spec, real, real], jit_compile=False)
    def learn(inputs, targets, weights):
        with tf.GradientTape() as tape:
            logits = network(inputs, training=True)[..., 0]
            losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_sum(losses * weights) / tf.cast(tf.shape(weights)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    @tf.function(input_signature=[step_spec, real, real], jit_compile=False)
    def measure(inputs, targets, weights):
        logits = network(inputs, training=False)[..., 0]
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits) * weights)

    draw = _drawing(train, encoding, schedule, masked=shape.masked)
    valid = _placed(valid, masked=shape.masked)

    def valid_loss() -> float:
        total = 0.0
        for i in range(0, len(valid.windows), _VALID_CHUNK):
            c = slice(i, i + _VALID_CHUNK)
            total += float(measure(inputs_of(valid.windows[c], encoding), valid.targets[c], valid.weights[c]))
        return total / float(valid.weights.sum(dtype=np.float64))

    best, best_step, best_w = np.inf, 0, network.get_weights()
    seen = []
    for step in range(schedule.steps):
        share = (1 + np.cos(np.pi * step / schedule.steps)) / 2
        optimizer.learning_rate.assign(schedule.learning_rate * (schedule.final_share + (1 - schedule.final_share) * share))
        b = draw(step)
        seen.append(float(learn(inputs_of(b.windows, encoding), b.targets, b.weights)))
        observer.on_step(step + 1, schedule.steps)
        if (step + 1) % schedule.validate_every == 0 or step + 1 == schedule.steps:
            v = valid_loss()
            observer.on_validation(step + 1, float(np.mean(seen)), v)
            seen = []
            if v < best:
                best, best_step, best_w = v, step + 1, network.get_weights()
            elif schedule.patience is not None and step + 1 >= schedule.at_least and step + 1 - best_step >= schedule.patience:
                break
    if schedule.patience is not None:
        network.set_weights(best_w)
    return Fitted(Tensors.of(network), int(network.count_params()), best_step, best, network)


def _drawing(train: Examples, encoding: Encoding, schedule: Schedule, *, masked: bool):
    count = len(train)
    batch = min(schedule.batch_size, count)
    per_epoch = count // batch
    order = np.empty(0, np.int64)
    shown_epoch = -1
    rng = np.random.default_rng([schedule.seed, 0])
    sample = train.shown(rng.integers(0, count, _SAMPLE), rng)
    mean = float(sample.weights.sum(dtype=np.float64)) / _SAMPLE

    def draw(step: int) -> Shown:
        nonlocal order, shown_epoch
        epoch, place = divmod(step, per_epoch)
        if epoch != shown_epoch:
            order, shown_epoch = np.random.default_rng([schedule.seed, 1, epoch]).permutation(count), epoch
        rng = np.random.default_rng([schedule.seed, 2, step])
        shown = _placed(train.shown(order[place * batch:(place + 1) * batch], rng), masked=masked)
        if encoding.unknown_token and schedule.unknown_share:
            hidden = (rng.random(shown.windows.shape) < schedule.unknown_share) & (shown.windows["action"] > 0)
            shown.windows["action"][hidden] = len(encoding.vocabulary) + 1
        return shown._replace(weights=shown.weights / np.float32(mean))

    return draw


def _placed(shown: Shown, *, masked: bool) -> Shown:
    if masked:
        return shown
    rows, last = np.arange(len(shown.windows)), scoring_place(shown.windows, masked=True)
    targets, weights = np.zeros_like(shown.targets), np.zeros_like(shown.weights)
    targets[:, -1], weights[:, -1] = shown.targets[rows, last], shown.weights[rows, last]
    return Shown(shown.windows, targets, weights)
