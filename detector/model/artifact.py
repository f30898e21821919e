"""The model file: one ONNX file with everything that serving needs in its metadata, checked before it is used.

Layout: an ONNX model whose metadata property METADATA_KEY is one JSON document (`ModelMetadata`), and whose last
property, SEAL_KEY, is the SHA-256 of every byte before it. The seal finds damage, which neither protobuf nor a
graph with one weight off would show; it is no signature. The canaries find a machine or a library that computes
something else than the one that exported the file.
"""

import hashlib
import stat
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.alerts import ModelReference
from detector.core.drift import Watched, check_reference
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.limits import SessionLimits
from detector.model.graph import RefusedGraphError, check_graph
from detector.model.metadata import FORMAT, SIGNALS_FORMAT, ModelMetadata, format_of
from detector.model.scorer import (
    ACTIONS_INPUT,
    GAPS_INPUT,
    SCORE_OUTPUT,
    SIGNALS_INPUT,
    GraphError,
    Port,
    Scorer,
)

METADATA_KEY = "session-fraud-detector.model"
SEAL_KEY = "session-fraud-detector.sha256"
MAX_MODEL_BYTES = 64 * 1024 * 1024
"""Several times the largest vocabulary's embedding; a file beyond it is not one of ours."""
CANARY_TOLERANCE = 1e-4
"""How far a canary's score may lie off. Where a steep model is undecided, CPUs and libraries differ by up to 1e-5
in single precision; what computes wrongly differs by far more.
"""

_DIGEST_CHARS = 64
# A protobuf field is (tag, length, bytes): metadata_props is field 14 of ModelProto, holding key (1), value (2).
_SEAL_ENTRY = b"\x0a%c%b\x12%c" % (len(SEAL_KEY), SEAL_KEY.encode(), _DIGEST_CHARS)
_SEAL_HEAD = b"\x72%c%b" % (len(_SEAL_ENTRY) + _DIGEST_CHARS, _SEAL_ENTRY)
_SEAL_BYTES = len(_SEAL_HEAD) + _DIGEST_CHARS
_EXPORT_AGAIN = "train or copy the model again"


class ModelRefusedError(ValueError):
    """The file is not a model that this detector can score with. The message says why and what to do."""


class UnknownActions(StrEnum):
    """What serving does with an action that the model does not know."""

    DEAD_LETTER = "dead-letter"
    TOKEN = "token"  # noqa: S105  no secret


class _Versioned(msgspec.Struct):
    format: int


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A loaded model.

    Attributes:
        metadata: from the file.
        sha256: of the whole file, hexadecimal.
        encoding: of the windows that it scores.
    """

    metadata: ModelMetadata
    sha256: str
    encoding: Encoding
    _scorer: Scorer

    @property
    def threshold(self) -> float:
        """The score that blocks, above 0 and at most 1."""
        return self.metadata.threshold

    @property
    def challenge_threshold(self) -> float | None:
        """The score that asks for a second factor, if the file says one."""
        return self.metadata.challenge_threshold

    @property
    def unknown_actions(self) -> UnknownActions:
        """What becomes of an action beyond the vocabulary."""
        return UnknownActions.TOKEN if self.encoding.unknown_token else UnknownActions.DEAD_LETTER

    @property
    def reference(self) -> ModelReference:
        """How alerts name this model."""
        return ModelReference(name=self.metadata.name, version=self.metadata.version, sha256=self.sha256)

    @property
    def evidence(self) -> Evidence | None:
        """How the scores of a session's windows add up; None if they don't."""
        return self.metadata.evidence

    @property
    def idle_timeout_ms(self) -> int:
        """After which a session has ended, as the model was trained."""
        return self.metadata.idle_timeout_ms or SessionLimits().idle_timeout_ms

    @property
    def watched(self) -> Watched | None:
        """What traffic is held against for drift; None where the file says nothing of it."""
        return Watched(self.metadata.drift, self.threshold) if self.metadata.drift else None

    def treating(self, unknown_actions: UnknownActions) -> "Model":
        """Return the same model with another treatment of unknown actions.

        Raises:
            ModelRefusedError: it has no token for them where one is asked for.
        """
        return replace(self, encoding=_encoding(self.metadata, unknown_actions))

    def score(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Score windows; on one machine a window's score has the same bits in every batch.

        Args:
            windows: shape (n, window), dtype `encoding.step_dtype`, as `encoding.windows` returns.

        Returns:
            shape (n,), between 0 and 1.
        """
        return self._scorer.score(windows)

    def session_scores(self, steps: bytes) -> list[float]:
        """Return a session's score after each of its actions.

        Args:
            steps: of the whole session, as `encoding.steps` returns.
        """
        ends = range(self.encoding.step_bytes, len(steps) + 1, self.encoding.step_bytes)
        windows = self.encoding.windows(
            [steps[max(0, end - self.encoding.window_bytes) : end] for end in ends]
        )
        scores: list[float] = self.score(windows).tolist()
        return scores if self.evidence is None else self.evidence.session_scores(scores)


PLAIN_MODELS = ("default", "seed")
"""Packaged models that read actions and times alone: the one trained on realistic traffic, and the notebook's."""
PACKAGED_MODELS = (*PLAIN_MODELS, "history")
"""Those, and the one that reads what events carry and what their account did before, trained on lives."""


def default_model_path() -> Path:
    """Return the path of the packaged model."""
    return packaged_model_path("default")


def packaged_model_path(name: str) -> Path:
    """Return the path of one of PACKAGED_MODELS."""
    return Path(str(files("detector.model") / f"{name}.onnx"))


def resolve_model_path(model: Path | str) -> Path:
    """Return the file that a setting means: a packaged model by its name, or else a path."""
    return packaged_model_path(str(model)) if str(model) in PACKAGED_MODELS else Path(model)


def load_model(path: Path, unknown_actions: UnknownActions = UnknownActions.DEAD_LETTER) -> Model:
    """Read, check and load a model file. It is read once: what is hashed is what scores.

    Args:
        path: of the file.
        unknown_actions: whether the model's encoding has a token for actions beyond the vocabulary.

    Raises:
        ModelRefusedError: there is no such file, it is not a model of ours, damaged, of a newer format,
            contradicts itself, does not give the scores that it gave when it was exported, or has no unknown token
            where one is asked for.
    """
    data = _read(path)
    try:
        return _load(data, unknown_actions)
    except (ModelRefusedError, RefusedGraphError) as error:
        raise ModelRefusedError(f"model file {path} is refused: {error}") from error
    except GraphError as error:
        raise ModelRefusedError(
            f"model file {path} is refused: onnxruntime cannot run it ({str(error)[:300]}): expected a graph that "
            f"it supports; {_EXPORT_AGAIN}"
        ) from error


def seal(model: bytes) -> bytes:
    """Append the seal to a serialised ONNX model that holds the metadata."""
    return model + _SEAL_HEAD + hashlib.sha256(model).hexdigest().encode()


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise ModelRefusedError(f"model file {path} is {kind}: expected an .onnx file; give its path")
        with path.open("rb") as file:
            data = file.read(MAX_MODEL_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelRefusedError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ModelRefusedError(
            f"model file {path} cannot be read ({reason}): expected an .onnx file; check its path and permissions"
        ) from error
    if len(data) > MAX_MODEL_BYTES:
        raise ModelRefusedError(
            f"model file {path} has more than {MAX_MODEL_BYTES:,} bytes: expected a model exported by "
            "`python -m trainer train`; check the path"
        )
    return data


def _load(data: bytes, unknown_actions: UnknownActions) -> Model:
    _check_seal(data)
    check_graph(data)
    scorer = Scorer(data)
    metadata = _metadata(scorer.properties)
    encoding = _encoding(metadata, unknown_actions)
    _check_ports(scorer, encoding)
    _check_tables(scorer, encoding, rows=len(encoding.vocabulary) + metadata.unknown_token)
    if metadata.drift is not None:
        try:
            check_reference(metadata.drift, encoding)
        except ValueError as error:
            raise ModelRefusedError(f"its metadata has {error}; {_EXPORT_AGAIN}") from error
    model = Model(metadata, hashlib.sha256(data).hexdigest(), encoding, scorer)
    _check_canaries(model, scorer)
    return model


def _check_seal(data: bytes) -> None:
    sealed, head, digest = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:-_DIGEST_CHARS], data[-_DIGEST_CHARS:]
    if head == _SEAL_HEAD and digest == hashlib.sha256(sealed).hexdigest().encode():
        return
    if not data:
        seen = "it is empty"
    elif head == _SEAL_HEAD or METADATA_KEY.encode() in data:
        seen = f"its {len(data):,} bytes do not match their seal, so it is truncated, damaged or was edited"
    else:
        seen = f"its {len(data):,} bytes bear no seal, so it comes from elsewhere or most of it is missing"
    raise ModelRefusedError(f"{seen}: expected a file as `python -m trainer train` wrote it; {_EXPORT_AGAIN}")


def _metadata(properties: dict[str, str]) -> ModelMetadata:
    document = properties.get(METADATA_KEY)
    if document is None:
        raise ModelRefusedError(
            f"it has no metadata property {METADATA_KEY!r}: expected a model exported by `python -m trainer "
            f"train`; {_EXPORT_AGAIN}"
        )
    try:
        seen = msgspec.json.decode(document, type=_Versioned).format
        if not FORMAT <= seen <= SIGNALS_FORMAT:
            raise ModelRefusedError(
                f"it has format {seen}: expected one from {FORMAT} to {SIGNALS_FORMAT}; "
                + ("update the detector" if seen > FORMAT else "train the model again")
            )
        metadata = msgspec.json.decode(document, type=ModelMetadata)
    except msgspec.DecodeError as error:
        raise ModelRefusedError(
            f"its metadata is not valid ({error}): expected what `python -m trainer train` writes; {_EXPORT_AGAIN}"
        ) from error
    if seen < format_of(metadata):
        raise ModelRefusedError(
            f"it has format {seen} and what begins with format {format_of(metadata)}, evidence, signals or "
            f"actions of its own that end a session: expected a file as `python -m trainer train` wrote it; {_EXPORT_AGAIN}"
        )
    if not 0 < metadata.threshold <= 1:
        raise ModelRefusedError(
            f"its threshold is {metadata.threshold}: expected one above 0 and at most 1; train it with such a one"
        )
    challenge = metadata.challenge_threshold
    if challenge is not None and not 0 < challenge < metadata.threshold:
        raise ModelRefusedError(
            f"its challenge threshold is {challenge}: expected one above 0 and below its threshold, {metadata.threshold}, or "
            f"none; {_EXPORT_AGAIN}"
        )
    if metadata.idle_timeout_ms is not None and metadata.idle_timeout_ms < 1:
        raise ModelRefusedError(
            f"its sessions end after {metadata.idle_timeout_ms} ms without an action: expected 1 or more; {_EXPORT_AGAIN}"
        )
    return metadata


def _encoding(metadata: ModelMetadata, unknown_actions: UnknownActions) -> Encoding:
    with_token = unknown_actions is UnknownActions.TOKEN
    if with_token and not metadata.unknown_token:
        raise ModelRefusedError(
            "it has no token for unknown actions: expected a model that has learned one; train it again, or send such "
            "actions to the dead letters (--unknown-actions dead-letter)"
        )
    try:
        return Encoding(
            metadata.vocabulary,
            metadata.window,
            metadata.gap_bounds_ms,
            unknown_token=with_token,
            ends_session=metadata.ends_session,
            signals=metadata.signals,
        )
    except ValueError as error:
        raise ModelRefusedError(f"its metadata has {error}; {_EXPORT_AGAIN}") from error


def _check_ports(scorer: Scorer, encoding: Encoding) -> None:
    steps = None if scorer.tells_each_step else encoding.window
    inputs = {ACTIONS_INPUT: Port("tensor(int32)", (None, steps))}
    if encoding.gap_bounds_ms:
        inputs[GAPS_INPUT] = Port("tensor(int32)", (None, steps))
    if encoding.signals:
        inputs[SIGNALS_INPUT] = Port("tensor(int32)", (None, steps, len(encoding.signals)))
    outputs = {SCORE_OUTPUT: Port("tensor(float)", (None, None) if scorer.tells_each_step else (None,))}
    for kind, seen, expected in (("inputs", scorer.inputs, inputs), ("outputs", scorer.outputs, outputs)):
        if seen != expected:
            raise ModelRefusedError(
                f"its graph has the {kind} {_describe(seen)}: expected {_describe(expected)} from its metadata; "
                f"{_EXPORT_AGAIN}"
            )


def _describe(ports: dict[str, Port]) -> str:
    return ", ".join(
        f"{name} {port.type}[{', '.join('n' if size is None else str(size) for size in port.shape)}]"
        for name, port in sorted(ports.items())
    )


def _check_tables(scorer: Scorer, encoding: Encoding, rows: int) -> None:
    """Check that the graph's embeddings have a row for every code of the metadata, and none beyond."""
    codes, gap_bucket = encoding.signals.codes, encoding.gap_buckets - 1
    last = [code - 1 for code in codes]
    nexts = [[*last[:place], code, *last[place + 1 :]] for place, code in enumerate(codes)]
    fits = scorer.accepts(action_code=rows, gap_bucket=gap_bucket, signal_codes=last)
    beyond = (
        scorer.accepts(action_code=rows + 1, gap_bucket=gap_bucket, signal_codes=last)
        or (
            bool(encoding.gap_bounds_ms)
            and scorer.accepts(action_code=rows, gap_bucket=gap_bucket + 1, signal_codes=last)
        )
        or any(scorer.accepts(action_code=rows, gap_bucket=gap_bucket, signal_codes=one) for one in nexts)
    )
    if not fits or beyond:
        raise ModelRefusedError(
            f"its metadata names {rows} actions and {encoding.gap_buckets} gap buckets"
            f"{f', and signals of {codes} codes' if codes else ''}, and its graph was built for {'more' if beyond else 'fewer'}: expected the same; {_EXPORT_AGAIN}"
        )


def _check_canaries(model: Model, scorer: Scorer) -> None:
    canaries = model.metadata.canaries
    if not canaries:
        raise ModelRefusedError(
            f"it has no canaries: expected some sessions with their scores; {_EXPORT_AGAIN}"
        )
    try:
        steps = [canary.steps(model.encoding) for canary in canaries]
    except (ValueError, IndexError) as error:
        raise ModelRefusedError(
            f"a canary cannot be encoded ({error}): expected actions of its vocabulary; {_EXPORT_AGAIN}"
        ) from error
    windows = model.encoding.windows(steps)
    if scorer.looks_ahead(windows):
        raise ModelRefusedError(
            "a canary's scores on the way change with its later actions: expected a graph that goes through a session "
            f"from its first action to its last; {_EXPORT_AGAIN}"
        )
    scores = model.score(windows)
    if scores.shape != (len(canaries),):
        raise ModelRefusedError(
            f"{len(canaries)} canaries give scores of shape {scores.shape}: expected one each; {_EXPORT_AGAIN}"
        )
    for canary, score in zip(canaries, scores.tolist(), strict=True):
        if not abs(score - canary.score) <= CANARY_TOLERANCE:  # not `>`, which a NaN would pass
            raise ModelRefusedError(
                f"the canary {canary.actions} scores {score}: expected {canary.score} within {CANARY_TOLERANCE}; "
                "install the onnxruntime of requirements/run.txt, or export the model on this kind of machine"
            )
