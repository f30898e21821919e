"""From labelled sessions to the model file: fitted, calibrated, given a threshold, exported and held against Keras."""

import hashlib
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from detector.contract.actions import ENDS_SESSION, LARGE_MONEY, MOVES_MONEY
from detector.core.encoding import Encoding
from detector.model.artifact import FORMAT, ModelMetadata
from detector.model.scorer import Scorer
from trainer.data.sessions import DataError, Sessions, Splits, sha256_of, together_in
from trainer.data.sittings import sittings
from trainer.data.windows import Examples, Weighing, examples, pack, windows_ending_at
from trainer.evaluation.figures import Figures, evaluate
from trainer.evaluation.scoring import Scored, score_sessions
from trainer.training.backend import Device, keras_on
from trainer.training.calibration import (
    DEFAULT_TARGET_FPR,
    Chosen,
    Line,
    TrainingError,
    Wanted,
    calibrate,
    choose_threshold,
)
from trainer.training.checkpoint import Checkpoint
from trainer.training.defaults import GAP_BUCKETS, MEMBERS, Schedule, encoding_for, folds, plan_for, shape_for
from trainer.training.evidence import Windows, fit_evidence
from trainer.training.export import build_graph, canaries, model_file
from trainer.training.fitting import Fitted, Observer, Plan, Silent, fit
from trainer.training.members import together
from trainer.training.network import Shape, Tensors, build_network, last_logits

MAX_PARITY_ERROR: Final = 1e-4
"""How far the exported graph's scores may lie from Keras' for the file to be written. Well below 1e-6 on the
sessions that a model was trained for; up to 1e-5 is single precision itself, where a steep model is undecided.
"""
_PARITY_WINDOWS: Final = 4_096
_VALID_WINDOWS: Final = 20_000
_STOPPING_SHARE: Final = 20
_STOPPING_SESSIONS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One training run; the same one twice on the same data gives the same file, byte for byte, on one machine.

    Attributes:
        shape: of each network; None chooses it.
        schedule: of each fit.
        members: networks whose logits' mean is the model's. None takes one where the validation part can show
            DEFAULT_TARGET_FPR, and otherwise MEMBERS, each without a fold of the data that then judges it.
        window: actions that the model reads; None for as many as 95 % of the training sessions have, 24 at most.
        gap_buckets: of equal ratio between the 0.5th and 99.5th percentile of the gaps; 0 uses no time.
        encoding: the steps to read, as those of a model that this one is to take the place of; None chooses them.
        calibrated: whether scores are made probabilities.
        wanted: what decides the threshold.
        base_rate: share of attacks where the model will serve; None for the data's own.
        idle_timeout_ms: of the detector: a session without an action for longer begins anew.
        ends_session: actions after which a session begins anew, if there is no encoding that says so.
        moves_money: actions that move money, and `large_money` much of it, for figures.
        device: to train on; only the CPU gives the same bytes again.
        data_parameters: how the data came to be, for the record in the model file.
    """

    shape: Shape | None = None
    schedule: Schedule = field(default_factory=Schedule)
    members: int | None = None
    weighing: Weighing = field(default_factory=Weighing)
    window: int | None = None
    gap_buckets: int = GAP_BUCKETS
    encoding: Encoding | None = None
    calibrated: bool = True
    wanted: Wanted = field(default_factory=Wanted)
    base_rate: float | None = None
    idle_timeout_ms: int = 1_800_000
    ends_session: tuple[str, ...] = ENDS_SESSION
    moves_money: tuple[str, ...] = MOVES_MONEY
    large_money: tuple[str, ...] = LARGE_MONEY
    device: Device = "cpu"
    preset: str = "data"
    name: str = "session-lstm"
    version: str = "1"
    data_parameters: dict[str, int | float | str] = field(default_factory=dict)


class Trained(NamedTuple):
    """A trained model: its file, and what it scored."""

    file: bytes
    metadata: ModelMetadata
    parameters: int
    figures: Figures
    test: Scored
    parity_error: float


class _Judge(NamedTuple):
    """A network, and sessions that it has not learned from."""

    tensors: Tensors
    sessions: Sessions


def train(
    config: TrainingConfig, parts: Splits, observer: Observer | None = None, kept: Path | None = None
) -> Trained:
    """Train, calibrate, choose the threshold, export, and evaluate what was exported.

    Args:
        config: of the run.
        parts: sessions to train on, to choose the threshold by, and to evaluate on.
        observer: told how it gets on.
        kept: folder for checkpoints, which are gone on from where they are there.

    Raises:
        BackendMissingError: TensorFlow or onnx is not installed, or has no such device.
        TrainingError: it gave no model worth writing, or the exported graph's scores are not Keras'.
        DataError: the data lacks something.
        CheckpointError: a checkpoint is of another run.
    """
    told = observer or Silent()
    keras = keras_on(config.device, config.schedule.seed)
    encoding = config.encoding or encoding_for(
        parts.train, config.window, config.gap_buckets, ends_session=config.ends_session
    )
    if encoding.gap_bounds_ms and parts.train.times_ms is None:
        raise DataError(
            "the model that is to be replaced reads gaps, and not all sessions have times: expected timestamps_ms in each"
        )
    _tell_longer(parts.train, encoding, config.idle_timeout_ms, told)
    base_rate = config.base_rate or float(np.mean(np.concatenate([part.labels for part in parts]) == 1))
    data_sha256 = sha256_of(parts)
    members = _members(config, parts)
    shape = config.shape or shape_for(members)
    runs = []
    for number, (learned, stopped_by) in enumerate(_pairs(config, parts, members)):
        told.on_stage(f"training {number + 1} of {members}" if members > 1 else "training")
        train_windows = Examples(
            pack(learned, encoding, config.idle_timeout_ms), encoding.window, config.weighing
        )
        plan = plan_for(config.schedule, len(train_windows), number)
        valid = examples(
            pack(stopped_by, encoding, config.idle_timeout_ms),
            encoding.window,
            config.weighing,
            plan.seed,
            _VALID_WINDOWS,
        )
        checkpoint = (
            None if kept is None else _checkpoint(kept, number, config, shape, plan, encoding, data_sha256)
        )
        runs.append(
            (fit(keras, shape, encoding, train_windows, valid, plan, told, checkpoint), stopped_by, plan)
        )
    fitted = [run for run, _, _ in runs]
    tensors = together([run.tensors for run in fitted])
    uncalibrated = Scorer(_graph(tensors, encoding, shape, Line()).SerializeToString())
    parity_error = _parity(keras, tensors, shape, uncalibrated, encoding, parts.test, config)

    told.on_stage("calibrating")
    judges = [_Judge(run.tensors, fold) for run, fold, _ in runs]
    if members == 1:  # which has learned when to end from that fold
        judges = [_Judge(tensors, parts.valid if len(parts.valid) else parts.test)]
    line = Line()
    if config.calibrated:
        judged = _judged(judges, Line(), encoding, shape, config, told)
        line = calibrate(judged.highest(), judged.labels, base_rate)
    judged = _judged(judges, line, encoding, shape, config, told)
    evidence = (
        fit_evidence(Windows.of(judged), base_rate, config.schedule.seed)
        if config.calibrated and config.weighing.every_prefix
        else None
    )
    judged = judged.adding_up(evidence)
    chosen = choose_threshold(config.wanted, judged.highest(), judged.labels, base_rate)
    if chosen.told:
        told.on_note(chosen.told)

    told.on_stage("evaluating")
    graph = _graph(tensors, encoding, shape, line)
    scorer = Scorer(graph.SerializeToString())
    test = _scored(scorer, encoding, parts.test, config, told).adding_up(evidence)
    figures = evaluate(test, chosen.threshold, base_rate)
    metadata = ModelMetadata(
        format=FORMAT,
        name=config.name,
        version=config.version,
        preset=config.preset,
        vocabulary=list(encoding.vocabulary),
        window=encoding.window,
        gap_bounds_ms=list(encoding.gap_bounds_ms),
        threshold=chosen.threshold,
        training=_recorded(config, shape, runs[0][2], fitted, line, chosen, base_rate),
        metrics=figures.numbers() | {"parity_error": parity_error},
        data_sha256=data_sha256,
        libraries=_libraries(),
        canaries=canaries(scorer, encoding, parts.test, config.schedule.seed),
        unknown_token=encoding.unknown_token,
        ends_session=tuple(sorted(encoding.ends_session)),
        moves_money=config.moves_money,
        large_money=config.large_money,
        evidence=evidence,
    )
    parameters = sum(one.size for one in asdict(tensors).values() if one is not None)
    return Trained(model_file(graph, metadata), metadata, parameters, figures, test, parity_error)


def _members(config: TrainingConfig, parts: Splits) -> int:
    if config.members is not None:
        return config.members
    return 1 if (parts.valid.labels == 0).sum() * DEFAULT_TARGET_FPR >= 1 else MEMBERS


def _pairs(config: TrainingConfig, parts: Splits, members: int) -> list[tuple[Sessions, Sessions]]:
    """Return for each network the sessions that it learns from, and those that say when to end."""
    seed = config.schedule.seed
    if members > 1:
        pool = together_in(parts.train, parts.valid)
        fold = folds(pool, members, seed)
        return [
            (pool.take(np.flatnonzero(fold != number)), pool.take(np.flatnonzero(fold == number)))
            for number in range(members)
        ]
    if not config.schedule.stops_early:
        return [(parts.train, parts.valid if len(parts.valid) else parts.test)]
    fold = folds(parts.train, max(_STOPPING_SHARE, len(parts.train) // _STOPPING_SESSIONS), seed)
    return [(parts.train.take(np.flatnonzero(fold)), parts.train.take(np.flatnonzero(fold == 0)))]


def _judged(
    judges: list[_Judge], line: Line, encoding: Encoding, shape: Shape, config: TrainingConfig, told: Observer
) -> Scored:
    """Score sessions by networks that have not learned from them."""
    scored = [
        _scored(
            Scorer(_graph(tensors, encoding, shape, line).SerializeToString()),
            encoding,
            sessions,
            config,
            told,
        )
        for tensors, sessions in judges
    ]
    if len(scored) == 1:
        return scored[0]
    sessions = together_in(*(one.sessions for one in scored))
    packed = pack(sessions, encoding, config.idle_timeout_ms)
    return Scored(packed.sessions, packed, np.concatenate([one.scores for one in scored]))


def _scored(
    scorer: Scorer, encoding: Encoding, sessions: Sessions, config: TrainingConfig, told: Observer
) -> Scored:
    """Score sessions after every action; of a model of whole sessions, the scores before the last count as 0."""
    scored = score_sessions(scorer.score, encoding, sessions, config.idle_timeout_ms, told.on_part)
    if config.weighing.every_prefix:
        return scored
    scores = np.zeros_like(scored.scores)
    last = scored.packed.starts[1:] - 1
    scores[last] = scored.scores[last]
    return Scored(scored.sessions, scored.packed, scores)


def _graph(tensors: Tensors, encoding: Encoding, shape: Shape, line: Line) -> Any:
    try:
        return build_graph(tensors, encoding.window, masked=shape.masked, slope=line.slope, shift=line.shift)
    except ValueError as error:
        raise TrainingError(f"the training diverged: {error}") from error


def _parity(
    keras: Any,
    tensors: Tensors,
    shape: Shape,
    uncalibrated: Scorer,
    encoding: Encoding,
    sessions: Sessions,
    config: TrainingConfig,
) -> float:
    """Return the largest difference of the exported graph's scores from Keras', over some windows."""
    some = sessions.take(np.arange(min(_PARITY_WINDOWS, len(sessions))))
    packed = pack(some, encoding, config.idle_timeout_ms)
    ends = np.linspace(0, len(packed.steps) - 1, min(_PARITY_WINDOWS, len(packed.steps))).astype(np.int64)
    windows = windows_ending_at(packed, ends, encoding.window)
    network = tensors.put_into(build_network(keras, shape.of(tensors), encoding))
    logits = last_logits(network, windows, encoding, masked=shape.masked).astype(np.float64)
    error = float(np.abs(uncalibrated.score(windows) - 1 / (1 + np.exp(-logits))).max())
    if not error <= MAX_PARITY_ERROR:  # not `>`, which a NaN would pass
        raise TrainingError(
            f"the exported graph's scores differ from Keras' by {error}: expected at most {MAX_PARITY_ERROR}; "
            "report it with the versions of tensorflow, onnx and onnxruntime"
        )
    return error


def _tell_longer(sessions: Sessions, encoding: Encoding, idle_timeout_ms: int, told: Observer) -> None:
    longer = int((sessions.lengths > encoding.window).sum())
    if longer:
        told.on_note(
            f"{longer:,} of {len(sessions):,} training sessions have more actions than the {encoding.window} that the "
            f"model reads at a time, up to {sessions.lengths.max():,} (--window)"
        )
    for line in sittings(sessions, encoding.window, idle_timeout_ms, encoding.ends_session).told(
        idle_timeout_ms
    ):
        told.on_note(line)


def _checkpoint(
    kept: Path,
    number: int,
    config: TrainingConfig,
    shape: Shape,
    plan: Plan,
    encoding: Encoding,
    data_sha256: str,
) -> Checkpoint:
    run = [
        shape,
        asdict(plan),
        asdict(config.weighing),
        config.idle_timeout_ms,
        encoding.fingerprint,
        data_sha256,
    ]
    return Checkpoint(kept / f"{number}.npz", hashlib.sha256(msgspec.json.encode(run)).hexdigest())


def _recorded(
    config: TrainingConfig,
    shape: Shape,
    plan: Plan,
    fitted: list[Fitted],
    line: Line,
    chosen: Chosen,
    base_rate: float,
) -> dict[str, int | float | str]:
    """Return what the model file says of the training."""
    numbers = {**shape._asdict(), **asdict(plan), **asdict(config.weighing), **config.wanted._asdict()}
    return {
        **config.data_parameters,
        **{
            name: int(one) if isinstance(one, bool) else one
            for name, one in numbers.items()
            if one is not None
        },
        "members": len(fitted),
        "best_step": int(np.median([one.step for one in fitted])),
        "base_rate": base_rate,
        "idle_timeout_ms": config.idle_timeout_ms,
        "slope": line.slope,
        "shift": line.shift,
        "threshold_by": chosen.by,
        "valid_lawful": chosen.lawful,
        "valid_false_alarm_rate": chosen.false_alarm_rate,
        "valid_recall": chosen.recall,
    }


def _libraries() -> dict[str, str]:
    names = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
