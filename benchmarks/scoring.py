"""The scorer alone, on one thread, beside what else could compute the same scores, and the roof above all of them."""

import time
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from detector.model.artifact import PLAIN_MODELS, Model, load_model, packaged_model_path

BATCHES = (1, 16, 64, 256, 1_024, 4_096)
PEER_BATCH = 1_024
Weights = dict[str, NDArray[np.float32]]


def weights_of(name: str) -> Weights:
    """Read the tensors of a packaged model."""
    graph = onnx.load(packaged_model_path(name)).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def windows_of(model: Model, count: int) -> NDArray[np.void]:
    """Draw full windows from a fixed seed."""
    rng, encoding = np.random.default_rng(1), model.encoding
    gaps_ms = rng.lognormal(9, 2, (count, encoding.window)).astype(int).tolist()
    codes = rng.integers(len(encoding.vocabulary), size=(count, encoding.window)).tolist()
    names = encoding.vocabulary
    return encoding.windows(
        [
            b"".join(encoding.step(names[code], gap_ms) for code, gap_ms in zip(*one, strict=True))
            for one in zip(codes, gaps_ms, strict=True)
        ]
    )


def rate(call: Callable[[], object], items: int, at_least_s: float) -> float:
    """Call again and again for a while; return items a second."""
    calls, began_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - began_s) < at_least_s:
        call()
        calls += 1
    return calls * items / elapsed_s


def in_numpy(weights: Weights, actions: NDArray[np.int32]) -> NDArray[np.float32]:
    """Score with NumPy: the LSTM of the seed model, gates in ONNX's order i, o, f, c."""
    kernel, recurrent = weights["input_weights"][0].T, weights["recurrence_weights"][0].T
    units = len(recurrent)
    bias = weights["cell_bias"][0, : 4 * units] + weights["cell_bias"][0, 4 * units :]
    hidden = np.zeros((len(actions), units), np.float32)
    cell = np.zeros_like(hidden)
    projected = (
        weights["action_embedding"] @ kernel + bias
    )  # one row an action: cheaper than a product a step
    for step in actions.T:
        gates = projected[step] + hidden @ recurrent
        sigmoid = 1 / (1 + np.exp(-gates[:, : 3 * units]))
        cell = sigmoid[:, 2 * units :] * cell + sigmoid[:, :units] * np.tanh(gates[:, 3 * units :])
        hidden = sigmoid[:, units : 2 * units] * np.tanh(cell)
    logits = hidden @ weights["risk_weights"] + weights["risk_bias"]
    scores: NDArray[np.float32] = (1 / (1 + np.exp(-logits)))[:, 0]
    return scores


def in_keras(weights: Weights, window: int) -> tuple[Callable[[NDArray[np.int32]], object], ...]:
    """Return the seed model in Keras with the same weights: `model.predict`, and a compiled call."""
    import tensorflow as tf  # noqa: PLC0415  takes seconds, and only this benchmark wants it

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    units = weights["risk_weights"].shape[0]
    order = np.concatenate([np.arange(units) + gate * units for gate in (0, 2, 3, 1)])  # i, f, c, o
    bias = weights["cell_bias"][0].reshape(2, -1).sum(axis=0)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((window,), dtype="int32"),
            tf.keras.layers.Embedding(*weights["action_embedding"].shape),
            tf.keras.layers.LSTM(units),
            tf.keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.set_weights(
        [
            weights["action_embedding"],
            weights["input_weights"][0].T[:, order],
            weights["recurrence_weights"][0].T[:, order],
            bias[order],
            weights["risk_weights"],
            weights["risk_bias"],
        ]
    )
    compiled = tf.function(lambda actions: model(actions, training=False))
    return (
        lambda actions: model.predict(actions, batch_size=4_096, verbose=0)[:, 0],
        lambda actions: compiled(tf.constant(actions)).numpy()[:, 0],
    )


def roof(weights: Weights, window: int, batch: int) -> Callable[[], object]:
    """Return the matrix products that a window takes at the least, and nothing else: one sgemm a step."""
    kernels = [
        value for name, value in weights.items() if name.endswith(("input_weights", "recurrence_weights"))
    ]
    rng = np.random.default_rng(2)
    matrix = np.ascontiguousarray(np.concatenate([kernel[0].T for kernel in kernels]))
    inputs = rng.standard_normal((batch, len(matrix))).astype(np.float32)
    out = np.empty((batch, matrix.shape[1]), np.float32)

    def multiply() -> None:
        for _ in range(window):
            np.matmul(inputs, matrix, out=out)

    return multiply


def run(repetitions: int, at_least_s: float) -> list[Result]:
    """Measure both packaged models."""
    return [_run(name, repetitions, at_least_s) for name in PLAIN_MODELS]


def _run(name: str, repetitions: int, at_least_s: float) -> Result:
    model, weights = load_model(packaged_model_path(name)), weights_of(name)
    windows = windows_of(model, max(BATCHES))
    actions = windows["action"].astype(np.int32)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        f"scorer, batch {size:,}": (lambda size=size: model.score(windows[:size]), size)  # type: ignore[misc]
        for size in BATCHES
    }
    # The machine's best: the batch size at which the products alone are fastest.
    for size in (64, 256, PEER_BATCH):
        calls[f"sgemm roof, batch {size:,}"] = (roof(weights, model.encoding.window, size), size)
    peers = []
    if name == "seed":
        predict, compiled = in_keras(weights, model.encoding.window)
        few = actions[:PEER_BATCH]
        expected = model.score(windows[:PEER_BATCH])
        for peer, scored in {
            "NumPy": lambda rows: in_numpy(weights, rows),
            "compiled TensorFlow": compiled,
            "Keras predict": predict,
        }.items():
            np.testing.assert_allclose(scored(few), expected, atol=1e-5)  # the same work, or no comparison
            for size in (1, PEER_BATCH):
                rows = actions[:size]
                scored(rows)
                calls[f"{peer}, batch {size:,}"] = (lambda scored=scored, rows=rows: scored(rows), size)  # type: ignore[misc]
            peers.append(peer)
    runs = repeated(
        {
            label: (lambda call=call, size=size: rate(call, size, at_least_s))  # type: ignore[misc]
            for label, (call, size) in calls.items()
        },
        repetitions,
    )
    best = [
        max(figures) for figures in zip(*(runs[f"scorer, batch {size:,}"] for size in BATCHES), strict=True)
    ]
    highest = [
        max(figures)
        for figures in zip(
            *(runs[f"sgemm roof, batch {size:,}"] for size in (64, 256, PEER_BATCH)), strict=True
        )
    ]
    target = 0.45 if name == "seed" else None
    ratios = [Ratio("scorer by the machine's sgemm roof", quotients(best, highest), target)]
    for peer in peers:
        for size in (1, PEER_BATCH):
            own, other = runs[f"scorer, batch {size:,}"], runs[f"{peer}, batch {size:,}"]
            ratios.append(Ratio(f"scorer by {peer}, batch {size:,}", quotients(own, other)))
    rows = [Row("scorer, best batch", "windows/s", best)]
    rows += [Row(label, "windows/s", figures) for label, figures in runs.items()]
    return Result(
        f"scoring-{name}",
        f"Scorer alone, {name} model",
        f"Full windows of {model.encoding.window} actions, LSTM of {weights['risk_weights'].shape[0]} units, one "
        f"thread; {repetitions} repetitions in turns. The roof is the windows' matrix products alone.",
        rows,
        ratios,
        {"scorer, best batch": 170_000} if name == "seed" else {},
    )
