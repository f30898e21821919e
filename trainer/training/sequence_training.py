"""From labelled sessions to the model file: fitted, calibrated, given a threshold, exported and held against Keras."""

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import MAX_GAP_BOUNDS, Encoding
from detector.model.artifact import FORMAT, Canary, ModelMetadata
from detector.model.scorer import Scorer
from trainer.data.sessions import DataError, Sessions, Splits, sha256_of, vocabulary_of
from trainer.data.windows import Weighing, examples, pack, windows_ending_at
from trainer.evaluation.figures import Figures, evaluate
from trainer.evaluation.scoring import Scored, score_sessions
from trainer.evaluation.thresholds import threshold_for, threshold_of_least_cost
from trainer.training.backend import deterministic_keras
from trainer.training.export import model_file
from trainer.training.seed_training import MAX_PARITY_ERROR, TrainingError
from trainer.training.sequence import Fitted, OnBatch, Schedule, Shape, build_sequence_graph, fit, last_logits

DEFAULT_TARGET_FPR: Final = 1e-3
MAX_DEFAULT_WINDOW: Final = 24
WINDOW_QUANTILE: Final = 0.95
CANARIES: Final = 16
PARITY_WINDOWS: Final = 4_096
_CONVERGED: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceConfig:
    """One training run; the same one twice on the same data gives the same file, byte for byte, on one machine.

    Attributes:
        window: actions that the model reads; None for as many as 95 % of the training sessions have, 24 at most.
        gap_buckets: of equal ratio between the 0.5th and 99.5th percentile of the gaps; 0 uses no time.
        encoding: the steps to read, those of a model that this one is to take the place of; None chooses them.
        target_fpr: share of lawful validation sessions that may raise an alarm in their life; decides the threshold
            unless costs are given.
        cost_fn: of a missed attack, in any unit.
        cost_fp: of a false alarm, in the same.
        base_rate: share of attacks where the model will serve; None for the data's own.
        idle_timeout_ms: of the detector: a session without an action for longer begins anew.
    """

    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    weighing: Weighing = field(default_factory=Weighing)
    window: int | None = None
    gap_buckets: int = 24
    encoding: Encoding | None = None
    target_fpr: float = DEFAULT_TARGET_FPR
    cost_fn: float | None = None
    cost_fp: float | None = None
    base_rate: float | None = None
    idle_timeout_ms: int = 1_800_000
    preset: str = "data"
    name: str = "session-lstm"
    version: str = "1"
    data_parameters: dict[str, int | float | str] = field(default_factory=dict)
    """How the data came to be, for the record in the model file."""

    def parameters(self, base_rate: float) -> dict[str, int | float | str]:
        """Return what the model file records of the training."""
        costs = {"cost_fn": self.cost_fn, "cost_fp": self.cost_fp}
        chosen = {name: cost for name, cost in costs.items() if cost is not None}
        return {
            **self.data_parameters,
            **self.shape._asdict(),
            **asdict(self.schedule),
            **asdict(self.weighing) | {"every_prefix": int(self.weighing.every_prefix)},
            **(chosen or {"target_fpr": self.target_fpr}),
            "base_rate": base_rate,
            "idle_timeout_ms": self.idle_timeout_ms,
        }


class Observer(Protocol):
    """Is told how the training gets on."""

    def on_stage(self, what: str) -> None:
        """Something that takes a while begins."""

    def on_batch(self, done: int, of: int) -> None:
        """`done` of all the run's batches `of` are done."""

    def on_epoch(self, number: int, loss: float, valid_loss: float) -> None:
        """An epoch is done."""


class Silent:
    """Observes nothing."""

    def on_stage(self, what: str) -> None:
        """Ignore it."""

    def on_batch(self, done: int, of: int) -> None:
        """Ignore it."""

    def on_epoch(self, number: int, loss: float, valid_loss: float) -> None:
        """Ignore it."""


class TrainedSequence(NamedTuple):
    """A trained model: its file, and what it scored."""

    file: bytes
    metadata: ModelMetadata
    parameters: int
    figures: Figures
    test: Scored
    parity_error: float


def train_sequence(
    config: SequenceConfig, parts: Splits, observer: Observer | None = None
) -> TrainedSequence:
    """Train, calibrate, choose the threshold, export, and evaluate what was exported.

    Raises:
        BackendMissingError: TensorFlow or onnx is not installed.
        TrainingError: it diverged, or the exported graph's scores are not Keras'.
        DataError: the data lacks something.
    """
    told = observer or Silent()
    keras = deterministic_keras(config.schedule.seed)
    encoding = encoding_for(config, parts.train)
    told.on_stage("preparing windows")
    base_rate = config.base_rate or float(np.mean(np.concatenate([part.labels for part in parts])))
    fitted = _fit(keras, config, encoding, parts, told.on_batch, told.on_epoch)
    told.on_stage("calibrating")
    uncalibrated = _scorer(_graph(fitted, config, encoding))
    valid = score_sessions(uncalibrated.score, encoding, parts.valid, config.idle_timeout_ms)
    slope, shift = calibrate(valid.highest(), valid.labels, base_rate)
    graph = _graph(fitted, config, encoding, slope=slope, shift=shift)
    scorer = _scorer(graph)
    told.on_stage("evaluating")
    valid = score_sessions(scorer.score, encoding, parts.valid, config.idle_timeout_ms)
    threshold = _threshold(config, valid, base_rate)
    parity_error = _parity(fitted, uncalibrated, encoding, parts.test, config)
    test = score_sessions(scorer.score, encoding, parts.test, config.idle_timeout_ms)
    figures = evaluate(test, threshold, base_rate)
    metadata = ModelMetadata(
        format=FORMAT,
        name=config.name,
        version=config.version,
        preset=config.preset,
        vocabulary=list(encoding.vocabulary),
        window=encoding.window,
        gap_bounds_ms=list(encoding.gap_bounds_ms),
        threshold=threshold,
        training=config.parameters(base_rate) | {"epochs_run": fitted.epochs, "slope": slope, "shift": shift},
        metrics=figures.numbers() | {"parity_error": parity_error},
        data_sha256=sha256_of(parts),
        libraries=_libraries(),
        canaries=canaries(test, encoding),
        unknown_token=True,
    )
    return TrainedSequence(
        model_file(graph, metadata), metadata, fitted.parameters, figures, test, parity_error
    )


def encoding_for(config: SequenceConfig, sessions: Sessions) -> Encoding:
    """Choose vocabulary, window and gap buckets for some training sessions, as far as the config does not say.

    Raises:
        DataError: the config's steps have gaps, and the sessions no times.
    """
    if config.encoding is not None:
        if config.encoding.gap_bounds_ms and sessions.times_ms is None:
            raise DataError(
                "the model that is to be replaced reads gaps, and not all sessions have times: expected timestamps_ms "
                "in each"
            )
        return config.encoding
    window = config.window
    if window is None:
        typical = np.quantile(sessions.lengths, WINDOW_QUANTILE)
        window = int(min(MAX_DEFAULT_WINDOW, max(1, np.ceil(typical))))
    bounds = gap_bounds_ms(sessions, config.gap_buckets) if config.gap_buckets else []
    return Encoding(vocabulary_of(sessions), window, bounds, unknown_token=True)


def gap_bounds_ms(sessions: Sessions, buckets: int) -> list[int]:
    """Return bounds of equal ratio that cover 99 % of the gaps; fewer where several fall on one millisecond."""
    if sessions.times_ms is None:
        return []
    gaps = np.diff(sessions.times_ms)
    gaps[sessions.starts[1:-1] - 1] = 0
    gaps = gaps[gaps > 0].astype(np.float64)
    if not len(gaps):
        return []
    low, high = np.quantile(gaps, [0.005, 0.995])
    bounds = np.geomspace(max(1, low), max(2, high), min(buckets, MAX_GAP_BOUNDS + 1) - 1)
    return sorted({int(np.ceil(bound)) for bound in bounds})


def calibrate(
    highest: NDArray[np.float32], labels: NDArray[np.float32], base_rate: float
) -> tuple[float, float]:
    """Fit the slope and shift that make the logits of sessions' highest scores probabilities at a base rate.

    Platt's scaling (1999) by Newton's method, lawful sessions weighed to the base rate, with a little ridge on the
    slope towards 1. Sessions and not prefixes, since it is a session's highest score that is compared with the
    threshold.
    """
    clipped = np.clip(highest.astype(np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(clipped) - np.log1p(-clipped)
    attack = labels == 1
    weight = np.where(attack, base_rate / attack.sum(), (1 - base_rate) / (~attack).sum()) * len(labels)
    design = np.column_stack([logits, np.ones_like(logits)])
    theta = np.array([1.0, 0.0])
    for _ in range(50):
        risk = 1 / (1 + np.exp(-np.clip(design @ theta, -40, 40)))
        gradient = design.T @ (weight * (risk - labels)) + np.array([1e-2 * (theta[0] - 1), 0.0])
        hessian = (design * (weight * risk * (1 - risk) + 1e-9)[:, None]).T @ design + 1e-2 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta -= np.clip(step, -2, 2)
        if np.abs(step).max() < _CONVERGED:
            break
    slope, shift = theta.tolist()
    if not slope > 0:
        raise TrainingError(
            f"the calibration has slope {slope:.3g}: expected attacks to score above lawful sessions on the "
            "validation part; give more data, or train longer"
        )
    return slope, shift


def canaries(scored: Scored, encoding: Encoding) -> list[Canary]:
    """Pick prefixes of real sessions whose scores spread evenly from 0 to 1, as far as there are such."""
    packed = scored.packed
    one_sitting = np.isin(packed.starts[:-1], packed.sittings) & (
        np.searchsorted(packed.sittings, packed.starts[1:])
        - np.searchsorted(packed.sittings, packed.starts[:-1])
        == 1
    )
    usable = np.repeat(one_sitting & (packed.lengths <= 4 * encoding.window), packed.lengths)
    pool = np.flatnonzero(usable)
    if not len(pool):
        pool = packed.starts[:-1]  # first actions, if sessions are endless
    scores = scored.scores[pool]
    picked = np.unique(np.abs(scores - np.linspace(0, 1, CANARIES)[:, np.newaxis]).argmin(axis=1))
    chosen = []
    for end in pool[picked].tolist():
        number = int(np.searchsorted(packed.starts, end, side="right")) - 1
        length = end - int(packed.starts[number]) + 1
        start = int(packed.starts[number])
        times_ms = scored.sessions.times_ms if encoding.gap_bounds_ms else None
        chosen.append(
            Canary(
                actions=scored.sessions.actions_of(number)[:length],
                times_ms=None if times_ms is None else (times_ms[start : end + 1] - times_ms[start]).tolist(),
                score=float(scored.scores[end]),
            )
        )
    return [one for one in chosen if all(action in encoding.vocabulary for action in one.actions)]


def _fit(
    keras: Any,
    config: SequenceConfig,
    encoding: Encoding,
    parts: Splits,
    on_batch: OnBatch,
    on_epoch: Any,
) -> Fitted:
    rng = np.random.RandomState(config.schedule.seed)
    train, valid = (
        examples(pack(part, encoding, config.idle_timeout_ms), encoding.window, config.weighing, rng)
        for part in (parts.train, parts.valid)
    )
    return fit(keras, config.shape, encoding, train, valid, config.schedule, on_batch, on_epoch)


def _graph(
    fitted: Fitted, config: SequenceConfig, encoding: Encoding, *, slope: float = 1.0, shift: float = 0.0
) -> Any:
    try:
        return build_sequence_graph(fitted.tensors, config.shape, encoding.window, slope=slope, shift=shift)
    except ValueError as error:
        raise TrainingError(f"the training diverged: {error}") from error


def _scorer(graph: Any) -> Scorer:
    return Scorer(graph.SerializeToString())


def _threshold(config: SequenceConfig, valid: Scored, base_rate: float) -> float:
    highest, labels = valid.highest(), valid.labels
    if config.cost_fn is not None and config.cost_fp is not None:
        return threshold_of_least_cost(highest, labels, base_rate, config.cost_fn, config.cost_fp)
    return threshold_for(highest[labels == 0], config.target_fpr)


def _parity(
    fitted: Fitted,
    uncalibrated: Scorer,
    encoding: Encoding,
    sessions: Sessions,
    config: SequenceConfig,
) -> float:
    """Return the largest difference of the exported graph's scores from Keras', over some windows."""
    packed = pack(
        sessions.take(np.arange(min(PARITY_WINDOWS, len(sessions)))), encoding, config.idle_timeout_ms
    )
    ends = np.linspace(0, len(packed.steps) - 1, min(PARITY_WINDOWS, len(packed.steps))).astype(np.int64)
    windows = windows_ending_at(packed, ends, encoding.window)
    expected = 1 / (1 + np.exp(-last_logits(fitted, windows, encoding).astype(np.float64)))
    error = float(np.abs(uncalibrated.score(windows) - expected).max())
    if not error <= MAX_PARITY_ERROR:  # not `>`, which a NaN would pass
        raise TrainingError(
            f"the exported graph's scores differ from Keras' by {error}: expected at most {MAX_PARITY_ERROR}; "
            "report it with the versions of tensorflow, onnx and onnxruntime"
        )
    return error


def _libraries() -> dict[str, str]:
    names = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
