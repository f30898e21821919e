"""From labelled sessions to the model file: fitted, calibrated, given a threshold, exported and held against Keras."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.model.metadata import FORMAT, ModelMetadata
from detector.model.scorer import Scorer
from trainer.data.sessions import DataError, LabelsOf, Sessions, Splits, sha256_of, together_in
from trainer.data.windows import Examples, examples, pack, windows_ending_at
from trainer.evaluation.course import Money
from trainer.evaluation.figures import Figures, evaluate
from trainer.evaluation.scoring import Scored, score_sessions
from trainer.evaluation.units import judge, labels_by
from trainer.training.backend import keras_on, versions
from trainer.training.bigrams import MOST_ACTIONS, bigram_graph, fit_bigrams, mean_of
from trainer.training.calibration import (
    Chosen,
    Line,
    TrainingError,
    calibrate,
    choose_challenge_threshold,
    choose_threshold,
)
from trainer.training.checkpoint import Checkpoint
from trainer.training.config import TrainingConfig, encoding_of
from trainer.training.defaults import plan_for
from trainer.training.ensemble import pairs_for, together
from trainer.training.evidence import Added, Windows, fit_evidence
from trainer.training.export import build_graph, canaries, model_file
from trainer.training.fitting import Fitted, Observer, Plan, fit
from trainer.training.network import ARCHITECTURE, Tensors, build_network, last_logits
from trainer.training.reference import reference_of
from trainer.training.teaching import Teacher

MAX_PARITY_ERROR: Final = 1e-4
"""How far the exported graph's scores may lie from Keras' for the file to be written. Well below 1e-6 on the
sessions that a model was trained for; up to 1e-5 is single precision itself, where a steep model is undecided.
"""
RECURRENT: Final = "recurrent"
BIGRAMS: Final = "bigrams"
_NAMES: Final = {RECURRENT: "session-lstm", BIGRAMS: "session-bigrams"}
VERSION_DIGITS: Final = 8
_PARITY_WINDOWS: Final = 4_096
_VALID_WINDOWS: Final = 20_000


class Trained(NamedTuple):
    """A trained model: its file, and what it scored."""

    file: bytes
    metadata: ModelMetadata
    parameters: int
    figures: Figures
    test: Scored
    parity_error: float


class _Judge(NamedTuple):
    """A network, sessions that it has not learned from, and those that it has."""

    tensors: Tensors
    sessions: Sessions
    shown: Sessions


class _Model(NamedTuple):
    """What may become the model: its graph, what its windows add up to, and what it made of sessions new to it."""

    network: str
    graph: Any
    line: Line
    added: Added
    judged: Scored
    parameters: int


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
    keras = keras_on(config.device, config.schedule.seed)
    run = _Run(config, encoding_of(config, parts.train), observer or Observer())
    for note in run.notes(parts.train):
        run.told.on_note(note)
    unit = parts.train.labels_of
    base_rate = config.base_rate or float(np.mean(np.concatenate([labels_by(part, unit) for part in parts])))
    data_sha256 = sha256_of(parts)
    learned = run.learn(keras, parts, data_sha256, kept)
    parity_error = run.parity(keras, together([fitted.tensors for fitted in learned.fits]), parts.test)

    run.told.on_stage("calibrating")
    # Events stand for themselves each.
    adds_up = config.calibrated and config.weighing.every_prefix and unit != "event"
    model = run.network(learned, base_rate, unit, adds_up=adds_up)
    encoding = run.encoding
    # Pairs of actions read no signals, and need two actions.
    small = len(encoding.vocabulary) <= MOST_ACTIONS and encoding.window > 1 and not encoding.signals
    if adds_up and config.bigrams and small:
        model = run.bigrams(learned, model, base_rate, unit)
    evidence = model.added.evidence
    seen = judge(model.judged, unit)
    chosen = choose_threshold(config.wanted, seen.scores, seen.labels.astype(np.float32), base_rate, unit)
    challenge_threshold, told = choose_challenge_threshold(
        config.challenge_fpr, chosen, seen.scores, seen.labels.astype(np.float32), unit
    )
    for note in (chosen.told, told):
        if note:
            run.told.on_note(note)

    run.told.on_stage("evaluating")
    scorer = Scorer(model.graph.SerializeToString())
    source = "the data's own" if config.base_rate is None else "given"
    test = run.scored(scorer, parts.test).adding_up(evidence)
    figures = evaluate(
        test,
        chosen.threshold,
        base_rate,
        base_rate_from=source,
        money=Money.of(config),
        challenge_threshold=challenge_threshold,
    )
    metadata = ModelMetadata(
        format=FORMAT,
        name=config.name or _NAMES[model.network],
        version=config.version,
        preset=config.preset,
        vocabulary=list(encoding.vocabulary),
        window=encoding.window,
        gap_bounds_ms=list(encoding.gap_bounds_ms),
        threshold=chosen.threshold,
        challenge_threshold=challenge_threshold,
        training=_recorded(config, learned, model, chosen, base_rate, unit),
        metrics=figures.numbers() | {"parity_error": parity_error},
        data_sha256=data_sha256,
        libraries=versions(),
        canaries=canaries(scorer, encoding, config.schedule.seed),
        unknown_token=encoding.unknown_token,
        ends_session=tuple(sorted(encoding.ends_session)),
        moves_money=config.moves_money,
        large_money=config.large_money,
        evidence=evidence,
        signals=encoding.signals.declared,
        idle_timeout_ms=None
        if config.idle_timeout_ms == SessionLimits().idle_timeout_ms
        else config.idle_timeout_ms,
        drift=reference_of(test, encoding, chosen.threshold, base_rate),
    )
    if not metadata.version:  # models of one name are told apart all the same
        digest = hashlib.sha256(model_file(model.graph, metadata)).hexdigest()
        metadata = msgspec.structs.replace(metadata, version=digest[:VERSION_DIGITS])
    return Trained(model_file(model.graph, metadata), metadata, model.parameters, figures, test, parity_error)


class _Learned(NamedTuple):
    """The networks of a run, how the first was fitted, and who judges which sessions."""

    fits: list[Fitted]
    plan: Plan
    judges: list[_Judge]


@dataclass(frozen=True, slots=True)
class _Run:
    """What every part of a run needs to know."""

    config: TrainingConfig
    encoding: Encoding
    told: Observer

    def notes(self, sessions: Sessions) -> Iterator[str]:
        """Yield what the user should know of the training sessions."""
        window, idle_ms = self.encoding.window, self.config.idle_timeout_ms
        longer = int((sessions.lengths > window).sum())
        if longer:
            yield (
                f"{longer:,} of {len(sessions):,} training sessions have more actions than the {window} that the model "
                f"reads at a time, up to {sessions.lengths.max():,} (--window)"
            )
        yield from pack(sessions, self.encoding, idle_ms).told
        if not self.config.weighing.every_prefix:
            yield (
                "trained on whole sessions: judged by the score after the last action alone, while the detector scores "
                "after each: recall and false alarms as served are given beside"
            )

    def learn(self, keras: Any, parts: Splits, data_sha256: str, kept: Path | None) -> _Learned:
        """Fit the networks."""
        config, encoding, fits, judges, plans = self.config, self.encoding, [], [], []
        pairs = pairs_for(parts, config.members, config.schedule)
        for shown, _ in pairs:
            _check_weights(shown)
        for number, (shown, others) in enumerate(pairs):
            # What weighs nothing would say nothing of when to end.
            stopped_by = replace(others, weights=None) if _unweighed(others) else others
            self.told.on_stage(f"training {number + 1} of {len(pairs)}" if len(pairs) > 1 else "training")
            packed, judging = (pack(one, encoding, config.idle_timeout_ms) for one in (shown, stopped_by))
            train_windows = Examples(packed, encoding.window, config.weighing)
            plan = plan_for(config.schedule, train_windows, encoding.window, number)
            valid = examples(judging, encoding.window, config.weighing, plan.seed, _VALID_WINDOWS)
            checkpoint = None
            if kept is not None:
                told = [config.shape, asdict(plan), asdict(config.weighing), config.idle_timeout_ms]
                told += [encoding.fingerprint, data_sha256, len(pairs), ARCHITECTURE]
                checkpoint = Checkpoint(
                    kept / f"{number}.npz", hashlib.sha256(msgspec.json.encode(told)).hexdigest()
                )
            teacher = (
                Teacher(shown, encoding, plan.seed)
                if len(pairs) > 1 and config.weighing.every_prefix
                else None
            )
            fits.append(
                fit(keras, config.shape, encoding, train_windows, valid, plan, self.told, checkpoint, teacher)
            )
            judges.append(_Judge(fits[-1].tensors, stopped_by, shown))
            plans.append(plan)
        if len(pairs) == 1:  # that network has learned from its judge when to end
            judges = [_Judge(fits[0].tensors, parts.valid if len(parts.valid) else parts.test, parts.train)]
        return _Learned(fits, plans[0], judges)

    def graph(self, tensors: Tensors, line: Line) -> Any:
        """Return the graph of a network, calibrated."""
        try:
            return build_graph(
                tensors,
                self.encoding.window,
                masked=self.config.shape.masked,
                slope=line.slope,
                shift=line.shift,
            )
        except ValueError as error:
            raise TrainingError(f"the training diverged: {error}") from error

    def scored(self, scorer: Scorer, sessions: Sessions) -> Scored:
        """Score sessions as the detector does, or at their end, if the model is one of whole sessions."""
        idle_ms, told = self.config.idle_timeout_ms, self.told.on_part
        scored = score_sessions(scorer.score, self.encoding, sessions, idle_ms, told)
        return scored if self.config.weighing.every_prefix else scored.at_the_end()

    def network(self, learned: _Learned, base_rate: float, unit: LabelsOf, *, adds_up: bool) -> _Model:
        """Calibrate the networks, and fit what their windows add up to."""
        line = Line()
        networks = [one.tensors for one in learned.judges]
        if self.config.calibrated:
            seen = judge(self.judged(learned.judges, [self.graph(one, line) for one in networks]), unit)
            line = calibrate(seen.scores, seen.labels.astype(np.float32), base_rate)
        judged = self.judged(learned.judges, [self.graph(one, line) for one in networks])
        added = Added(None, np.zeros(0))
        if adds_up:
            added = fit_evidence(Windows.of(judged), base_rate, self.config.schedule.seed)
        return _Model(
            RECURRENT,
            self.graph(together([fitted.tensors for fitted in learned.fits]), line),
            line,
            added,
            judged.adding_up(added.evidence),
            sum(fitted.tensors.parameters for fitted in learned.fits),
        )

    def bigrams(self, learned: _Learned, network: _Model, base_rate: float, unit: LabelsOf) -> _Model:
        """Return bigrams fitted to what the networks have learned from, with what they add up to, if they do better."""
        encoding, seed, fitted = self.encoding, self.config.schedule.seed, []
        for one in learned.judges:
            packed = pack(one.shown, encoding, self.config.idle_timeout_ms)
            fitted.append(fit_bigrams(packed, packed.sessions.targets, encoding, seed))
        judged = self.judged(learned.judges, [bigram_graph(one, encoding.window) for one in fitted])
        added = fit_evidence(Windows.of(judged), base_rate, seed)
        if not added.beats(network.added):
            return network
        self.told.on_note(
            "logistic regression on pairs of actions does better on sessions that neither has seen (log loss "
            f"{added.losses.mean():.4f} against {network.added.losses.mean():.4f}): it is the model"
        )
        if added.evidence is None:  # which calibrates, where there is one
            seen = judge(judged, unit)
            line = calibrate(seen.scores, seen.labels.astype(np.float32), base_rate)
            fitted = [one.on(line) for one in fitted]
            judged = self.judged(learned.judges, [bigram_graph(one, encoding.window) for one in fitted])
        bigrams = mean_of(fitted)
        return _Model(
            BIGRAMS,
            bigram_graph(bigrams, encoding.window),
            Line(),
            added,
            judged.adding_up(added.evidence),
            bigrams.parameters,
        )

    def judged(self, judges: list[_Judge], graphs: list[Any]) -> Scored:
        """Score each judge's sessions by the graph of its place, which has not learned from them."""
        scored = [
            self.scored(Scorer(graph.SerializeToString()), judge.sessions)
            for judge, graph in zip(judges, graphs, strict=True)
        ]
        if len(scored) == 1:
            return scored[0]
        sessions = together_in(*(one.sessions for one in scored))
        packed = pack(sessions, self.encoding, self.config.idle_timeout_ms)
        return Scored(packed.sessions, packed, np.concatenate([one.scores for one in scored]))

    def parity(self, keras: Any, tensors: Tensors, sessions: Sessions) -> float:
        """Return the largest difference of the exported graph's scores from Keras', over some windows."""
        encoding, shape = self.encoding, self.config.shape
        some = sessions.take(np.arange(min(_PARITY_WINDOWS, len(sessions))))
        packed = pack(some, encoding, self.config.idle_timeout_ms)
        count = min(_PARITY_WINDOWS, len(packed.steps))
        ends = np.linspace(0, len(packed.steps) - 1, count).astype(np.int64)
        windows = windows_ending_at(packed, ends, encoding.window)
        network = tensors.put_into(build_network(keras, shape.of(tensors), encoding))
        logits = last_logits(network, windows, encoding, masked=shape.masked).astype(np.float64)
        scores = Scorer(self.graph(tensors, Line()).SerializeToString()).score(windows)
        error = float(np.abs(scores - 1 / (1 + np.exp(-logits))).max())
        if not error <= MAX_PARITY_ERROR:  # not `>`, which a NaN would pass
            raise TrainingError(
                f"the exported graph's scores differ from Keras' by {error}: expected at most {MAX_PARITY_ERROR}; "
                "report it with the versions of tensorflow, onnx and onnxruntime"
            )
        return error


def _unweighed(part: Sessions) -> list[str]:
    """Return which of both kinds of sessions weigh nothing, in words."""
    if part.weights is None:
        return []
    kinds = ((part.labels == label, name) for label, name in enumerate(("lawful sessions", "attacks")))
    return [f"{int(of.sum()):,} {name}" for of, name in kinds if of.any() and not part.weights[of].any()]


def _check_weights(learned_from: Sessions) -> None:
    for what in _unweighed(learned_from):
        raise DataError(
            f"the weights of {what} to learn from are all 0: expected some above 0 of each kind; weigh more of them, or "
            "train one network (--members 1)"
        )


def _recorded(
    config: TrainingConfig, learned: _Learned, model: _Model, chosen: Chosen, base_rate: float, unit: LabelsOf
) -> dict[str, int | float | str]:
    """Return what the model file says of the training."""
    numbers = {
        **(config.shape._asdict() if model.network == RECURRENT else {}),
        **asdict(learned.plan),
        **asdict(config.weighing),
        **config.wanted._asdict(),
        "challenge_fpr": config.challenge_fpr,
    }
    return {
        **config.data_parameters,
        **{
            name: int(one) if isinstance(one, bool) else one
            for name, one in numbers.items()
            if one is not None
        },
        "members": len(learned.fits),
        "best_step": int(np.median([one.step for one in learned.fits])),
        "unit": unit,
        "base_rate": base_rate,
        "idle_timeout_ms": config.idle_timeout_ms,
        "model": model.network,
        "slope": model.line.slope,
        "shift": model.line.shift,
        "threshold_by": chosen.by,
        "valid_lawful": chosen.lawful,
        "valid_false_alarm_rate": chosen.false_alarm_rate,
        "valid_recall": chosen.recall,
    }
