"""Fitting: batches drawn as they are needed, the validation loss looked at every so often, the best weights kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from trainer.data.windows import Examples, Shown
from trainer.training.calibration import calibrated_loss
from trainer.training.checkpoint import Checkpoint, Progress
from trainer.training.network import Shape, Tensors, build_network, inputs_of, scoring_place
from trainer.training.teaching import Teacher

_CHUNK_STEPS: Final = 131_072
_SAMPLE: Final = 4_096
_CLIP_NORM: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a network is fitted.

    Attributes:
        steps: at most, each of one batch.
        batch_size: windows a step.
        learning_rate: of Adam at the start, falling along a cosine.
        final_share: of the learning rate, left at the last step.
        patience: steps without a better validation loss before the end; None goes on to the last and keeps its weights.
        at_least: steps before patience may end it.
        validate_every: steps.
        unknown_share: of the training actions, replaced by the unknown token so that it is learned.
        seed: of weights and batches.
    """

    steps: int
    batch_size: int
    learning_rate: float
    final_share: float
    patience: int | None
    at_least: int
    validate_every: int
    unknown_share: float
    seed: int


class Observer:
    """Is told how the training gets on, and does nothing of it."""

    def on_stage(self, what: str) -> None:
        """Something that takes a while begins."""

    def on_part(self, done: int, of: int) -> None:
        """`done` of the `of` parts of the stage are done."""

    def on_validation(self, step: int, loss: float, valid_loss: float) -> None:
        """The validation loss was looked at."""

    def on_note(self, line: str) -> None:
        """Something that the user should know was decided."""


class Fitted(NamedTuple):
    """A fitted network: its weights at the step that was best."""

    tensors: Tensors
    step: int
    valid_loss: float


def fit(
    keras: Any,
    shape: Shape,
    encoding: Encoding,
    train: Examples,
    valid: Shown,
    plan: Plan,
    observer: Observer,
    checkpoint: Checkpoint | None = None,
    teacher: Teacher | None = None,
) -> Fitted:
    """Fit a network to weighted steps.

    Args:
        keras: seeded.
        shape: of the network.
        encoding: of the windows.
        train: windows to draw from.
        valid: windows whose loss, calibrated, decides which weights are best and when to end.
        plan: of the fit.
        observer: told of each step.
        teacher: whose targets the labels take the place of, step by step.
        checkpoint: written after each validation, and gone on from where it is there: with the same result.
    """
    keras.utils.set_random_seed(plan.seed)
    network = build_network(keras, shape, encoding)
    optimizer = keras.optimizers.Adam(plan.learning_rate, clipnorm=_CLIP_NORM)
    optimizer.build(network.trainable_variables)
    learn, logits = _compiled(network, optimizer, encoding)
    state = Progress(0, 0, np.inf, network.get_weights(), _values(network, optimizer))
    if checkpoint is not None and (kept := checkpoint.load()) is not None:
        state = kept
        for variable, value in zip(_variables(network, optimizer), state.current, strict=True):
            variable.assign(value)
    draw = _Drawing(train, encoding, plan, teacher, masked=shape.masked)
    valid_loss = _loss(logits, valid, encoding, masked=shape.masked)
    losses: list[float] = []
    for step in range(state.step, plan.steps):
        if _is_over(state, plan):
            break
        falling = (1 + np.cos(np.pi * step / plan.steps)) / 2
        share = plan.final_share + (1 - plan.final_share) * falling
        optimizer.learning_rate.assign(plan.learning_rate * share)
        shown = draw(step)
        losses.append(float(learn(inputs_of(shown.windows, encoding), shown.targets, shown.weights)))
        done = step + 1
        observer.on_part(done, plan.steps)
        if done % plan.validate_every and done < plan.steps:
            continue
        loss = valid_loss()
        observer.on_validation(done, float(np.mean(losses)), loss)
        losses = []
        if loss < state.best_loss or plan.patience is None:
            state = state._replace(best_step=done, best_loss=loss, best=network.get_weights())
        state = state._replace(step=done, current=_values(network, optimizer))
        if checkpoint is not None:
            checkpoint.save(state)
    network.set_weights(state.best)
    return Fitted(Tensors.of(network, encoding), state.best_step, state.best_loss)


def _is_over(state: Progress, plan: Plan) -> bool:
    waited = state.step - state.best_step
    return plan.patience is not None and state.step >= plan.at_least and waited >= plan.patience


def _variables(network: Any, optimizer: Any) -> list[Any]:
    """Return all that a step changes: weights, the state of the dropout's draws, and the optimizer's moments."""
    return [*network.variables, *optimizer.variables]


def _values(network: Any, optimizer: Any) -> list[NDArray[Any]]:
    return [np.asarray(variable) for variable in _variables(network, optimizer)]


def _compiled(network: Any, optimizer: Any, encoding: Encoding) -> tuple[Any, Any]:
    """Return the step that learns from windows, targets and weights, and the logits of windows, compiled once each."""
    import tensorflow as tf  # noqa: PLC0415  takes seconds, and --help must not

    codes = [tf.TensorSpec(one.shape, tf.int32) for one in network.inputs]
    numbers = tf.TensorSpec([None, encoding.window], tf.float32)

    @tf.function(input_signature=[codes, numbers, numbers], jit_compile=False)  # type: ignore[untyped-decorator]  # XLA orders sums as it likes
    def learn(inputs: Any, targets: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, network(inputs, training=True)[..., 0])
            loss = tf.reduce_sum(losses * weights) / tf.cast(tf.shape(weights)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    @tf.function(input_signature=[codes], jit_compile=False)  # type: ignore[untyped-decorator]
    def logits(inputs: Any) -> Any:
        return network(inputs, training=False)[..., 0]

    return learn, logits


class _Drawing:
    """Draws each step's batch, by the seed and the step's number alone: every window once an epoch, in random order."""

    def __init__(
        self, train: Examples, encoding: Encoding, plan: Plan, teacher: Teacher | None, *, masked: bool
    ) -> None:
        self._train, self._encoding, self._plan, self._masked = train, encoding, plan, masked
        self._teacher = teacher
        self._batch = min(plan.batch_size, len(train))
        self._epoch, self._order = -1, np.empty(0, np.int64)
        rng = np.random.default_rng([plan.seed, 0])
        sample = train.shown(rng.integers(0, len(train), _SAMPLE), rng)
        self._mean = np.float32(sample.weights.sum(dtype=np.float64) / _SAMPLE) or 1
        if teacher is not None:
            teacher.look_at(sample)

    def __call__(self, step: int) -> Shown:
        seed = self._plan.seed
        epoch, place = divmod(step, len(self._train) // self._batch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([seed, 1, epoch]).permutation(len(self._train))
        rng = np.random.default_rng([seed, 2, step])
        numbers = self._order[place * self._batch : (place + 1) * self._batch]
        shown = self._train.shown(numbers, rng)
        shown = _placed(shown._replace(weights=shown.weights / self._mean), masked=self._masked)
        if self._teacher is not None:
            shown = self._teacher.mixed_into(shown, 1 - step / self._plan.steps)
        if self._encoding.unknown_token:
            is_hidden = rng.random(shown.windows.shape) < self._plan.unknown_share
            shown.windows["action"][is_hidden & (shown.windows["action"] > 0)] = (
                len(self._encoding.vocabulary) + 1
            )
        return shown


def _loss(logits: Any, valid: Shown, encoding: Encoding, *, masked: bool) -> Callable[[], float]:
    placed = _placed(valid, masked=masked)
    weighed = placed.weights > 0
    targets, weights = (one[weighed].astype(np.float64) for one in (placed.targets, placed.weights))

    def loss() -> float:
        chunk = max(1, _CHUNK_STEPS // encoding.window)
        chunks = range(0, len(placed.windows), chunk)
        scored = [np.asarray(logits(inputs_of(placed.windows[at : at + chunk], encoding))) for at in chunks]
        return calibrated_loss(np.concatenate(scored)[weighed].astype(np.float64), targets, weights)

    return loss


def _placed(shown: Shown, *, masked: bool) -> Shown:
    """Move what windows weigh at their last action to where the network's score is read."""
    if masked:
        return shown
    rows, last = np.arange(len(shown.windows)), scoring_place(shown.windows, masked=True)
    targets, weights = np.zeros_like(shown.targets), np.zeros_like(shown.weights)
    targets[:, -1], weights[:, -1] = shown.targets[rows, last], shown.weights[rows, last]
    return Shown(shown.windows, targets, weights)
