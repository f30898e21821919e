"""The scorer: an onnxruntime session that turns windows into scores on one core.

Which bits a score has must not depend on the batch it was computed in, or replaying a log in other batches
could decide otherwise. The LSTM and Gemm operators of onnxruntime keep that; Mul with ReduceSum in place of the
last Gemm does not. tests/model/test_scorer.py holds it.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# onnxruntime's builds carry telemetry to their publisher, on by default. It is read when the library loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

ACTIONS_INPUT = "actions"
GAPS_INPUT = "gaps"
SIGNALS_INPUT = "signals"
SCORE_OUTPUT = "score"
CHUNK_WINDOWS = 128
"""Most windows computed at once. Speed is flat from 64 up; of windows sorted by length, smaller chunks waste less."""

_FIELDS = {ACTIONS_INPUT: "action", GAPS_INPUT: "gap", SIGNALS_INPUT: "signals"}
"""Of a step, by the graph's input that reads it."""

_FATAL_ONLY = 4  # onnxruntime's severities: 0 verbose to 4 fatal

# Its warnings (a GPU that is not there, a node that a probe makes fail) are not for our users.
onnxruntime.set_default_logger_severity(_FATAL_ONLY)


class Port(NamedTuple):
    """One input or output of the graph: its type in onnxruntime's words, and its shape, None where it varies."""

    type: str
    shape: tuple[int | None, ...]


class GraphError(RuntimeError):
    """Onnxruntime cannot load or run the graph. Its own errors share no narrower class than Exception."""


class Scorer:
    """Computes scores with one thread, in chunks of at most CHUNK_WINDOWS.

    Args:
        model: an ONNX file's bytes.

    Attributes:
        inputs: the graph's inputs by name.
        outputs: the graph's outputs by name.
        properties: the file's metadata properties.
        tells_each_step: whether the graph takes windows of any length and tells the score after each of their steps, so that
            a window is scored on the way to one that it begins; else it tells one score for each whole window.

    Raises:
        GraphError: the bytes are no model that onnxruntime can run.
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # workers are scaled by partition, not by thread
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _FATAL_ONLY
        # Nothing but what `check_graph` has looked at: bytes that pass for its other format, too, would be read as that.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Weights in another file, which no hash of this one would cover, are looked for where no file can be.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it would print, and try the same again
            )
            self.inputs = _ports(self._session.get_inputs())
            self.outputs = _ports(self._session.get_outputs())
            self.properties: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:
            raise GraphError(str(error)) from error
        self._reads = {name: field for name, field in _FIELDS.items() if name in self.inputs}
        actions = self.inputs.get(ACTIONS_INPUT)
        self.tells_each_step = actions is not None and actions.shape[1:] == (None,)

    def score(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Score windows.

        Args:
            windows: shape (n, window), dtype `Encoding.step_dtype`, n at least 0.

        Returns:
            shape (n,), between 0 and 1.

        Raises:
            GraphError: the graph fails, as on a code beyond its vocabulary.
        """
        # Of windows of about equal lengths in a chunk few steps are wasted. Which share one changes no bit of their scores.
        if self.tells_each_step:
            return self._score_shared(windows)
        count = len(windows)
        if count <= CHUNK_WINDOWS:
            return self._score_chunk(windows)
        scores = np.empty(count, np.float32)
        for chunk in _chunks(np.count_nonzero(windows["action"], axis=1)):
            scores[chunk] = self._score_chunk(windows[chunk])
        return scores

    def _score_shared(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        """Score each window that begins another one on that one's way."""
        order, run_of, lengths = _runs(windows)
        scores = np.empty(len(windows), np.float32)
        ends = np.flatnonzero(np.diff(run_of, append=-1))
        of_steps = np.empty((len(ends), windows.shape[1]), np.float32)
        for chunk in _chunks(lengths[ends]):
            longest = max(1, lengths[ends[chunk[-1]]])
            of_steps[chunk, :longest] = self._score_chunk(windows[order[ends[chunk]], :longest])
        scores[order] = of_steps[run_of, np.maximum(lengths, 1) - 1]
        return scores

    def looks_ahead(self, windows: NDArray[np.void]) -> bool:
        """Tell whether a score on the way to the end of some window changes with the steps after it, by a bit.

        Such a graph would score a window by what else is in the batch.

        Args:
            windows: as of `score`.

        Raises:
            GraphError: as of `score`.
        """
        if not self.tells_each_step:
            return False
        whole = self._score_chunk(windows)
        ways = ((whole[:, :length], windows[:, :length]) for length in range(1, windows.shape[1]))
        return any(scores.tobytes() != self._score_chunk(begun).tobytes() for scores, begun in ways)

    def accepts(self, *, action_code: int, gap_bucket: int, signal_codes: Sequence[int] = ()) -> bool:
        """Tell whether the graph's tables reach as far as an action code, a gap bucket and codes of the signals."""
        window = self.inputs[ACTIONS_INPUT].shape[1] or 1
        feed = {
            ACTIONS_INPUT: np.full((1, window), action_code, np.int32),
            GAPS_INPUT: np.full((1, window), gap_bucket, np.int32),
            SIGNALS_INPUT: np.tile(np.array(signal_codes, np.int32), (1, window, 1)),
        }
        try:
            self._run({name: feed[name] for name in self._reads})
        except GraphError as error:
            if isinstance(error.__cause__, InvalidArgument):  # Gather checks its indices
                return False
            raise
        return True

    def _score_chunk(self, windows: NDArray[np.void]) -> NDArray[np.float32]:
        if not len(windows):
            return np.empty(0, np.float32)
        return self._run({name: windows[field].astype(np.int32) for name, field in self._reads.items()})

    def _run(self, feed: dict[str, NDArray[np.int32]]) -> NDArray[np.float32]:
        try:
            scores: NDArray[np.float32] = self._session.run([SCORE_OUTPUT], feed)[0]
        except Exception as error:
            raise GraphError(str(error)) from error
        return scores


def _chunks(lengths: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of windows of about equal lengths, in ascending order of these."""
    order = np.argsort(lengths, kind="stable")
    return (order[start : start + CHUNK_WINDOWS] for start in range(0, len(order), CHUNK_WINDOWS))


def _runs(windows: NDArray[np.void]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Put windows in order, so that each that begins another one comes right before such a one.

    Returns:
        the order; in that order, the number of the run that each is of: its last one begins with all others; and lengths.
    """
    count, size = len(windows), windows.shape[1] * windows.itemsize
    packed = np.ascontiguousarray(windows).view(np.uint8).reshape(count, size)
    order = np.argsort(packed.view(np.dtype((np.bytes_, size))).ravel(), kind="stable")
    packed, lengths = packed[order], np.count_nonzero(windows["action"], axis=1)[order]
    differs = packed[1:] != packed[:-1]
    alike = np.where(differs.any(axis=1), differs.argmax(axis=1), size)
    goes_on = (alike >= lengths[:-1] * windows.itemsize) & (lengths[:-1] > 0)
    return order, np.cumsum(np.append(0, ~goes_on)[:count]), lengths


def _ports(ports: list[Any]) -> dict[str, Port]:
    return {
        port.name: Port(port.type, tuple(size if isinstance(size, int) else None for size in port.shape))
        for port in ports
    }
