"""Training and evaluation of one model, from config to file."""

import platform
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.model.artifact import FORMAT, Canary, ModelMetadata
from detector.model.scorer import Scorer
from trainer.evaluation.ranking import Classification, Serving, classify, serve
from trainer.training.backend import deterministic_keras
from trainer.training.config import TrainingConfig
from trainer.training.export import build_graph, model_file
from trainer.training.network import Weights, build_network
from trainer.training.seed_data import Dataset, labels, last_windows, prefixes, simulate_seed

MAX_PARITY_ERROR = 1e-4
"""How far the exported graph's scores may lie from Keras' for the file to be written. Well below 1e-6 on the
sessions that a model was trained for; up to 1e-5 is single precision itself, where a steep model is undecided.
"""
CANARIES = 16
CANARY_POOL = 2_000


class TrainingError(RuntimeError):
    """The training gave no model worth writing."""


class Epoch(NamedTuple):
    """Figures after one epoch. The validation is on the sessions held out."""

    number: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


class Observer(Protocol):
    """Is told how the training gets on."""

    def on_batch(self, done: int, of: int) -> None:
        """`done` of all the run's batches `of` are done."""

    def on_epoch(self, epoch: Epoch) -> None:
        """An epoch is done."""


class Trained(NamedTuple):
    """A trained model: its file, and its figures on the sessions held out."""

    file: bytes
    metadata: ModelMetadata
    parameters: int
    classification: Classification
    serving: Serving
    parity_error: float


def train_and_evaluate(config: TrainingConfig, observer: Observer) -> Trained:
    """Train, export, and evaluate what was exported.

    Raises:
        BackendMissingError: TensorFlow or onnx is not installed.
        TrainingError: it diverged, or the exported graph's scores are not Keras'.
        ValueError: the config leaves nothing to train or to test on.
    """
    keras = deterministic_keras(config.seed)
    dataset = simulate_seed(config.sessions, config.seed, config.test_fraction)
    encoding = Encoding(dataset.vocabulary, config.window)
    network = build_network(keras, len(dataset.vocabulary), config)
    _fit(keras, network, dataset, encoding, config, observer)

    try:
        graph = build_graph(Weights.of(network), config.window)
    except ValueError as error:
        raise TrainingError(f"the training diverged: {error}") from error
    scorer = Scorer(graph.SerializeToString())
    held_out, truth = last_windows(dataset.test, encoding), labels(dataset.test)
    every_prefix = prefixes(dataset.test, encoding)
    scores = scorer.score(held_out)
    parity_error = _parity_error(network, scorer, every_prefix.windows)
    classification = classify(truth, scores, config.threshold)
    serving = serve(truth, every_prefix, scorer.score(every_prefix.windows), config.threshold)
    metadata = ModelMetadata(
        format=FORMAT,
        name=config.name,
        version=config.version,
        preset=config.preset,
        vocabulary=list(encoding.vocabulary),
        window=encoding.window,
        gap_bounds_ms=list(encoding.gap_bounds_ms),
        threshold=config.threshold,
        training=config.parameters(),
        metrics=_metrics(classification, serving, parity_error),
        data_sha256=dataset.sha256,
        libraries=_libraries(),
        canaries=_canaries(encoding, scorer, config.seed),
    )
    return Trained(
        model_file(graph, metadata), metadata, network.count_params(), classification, serving, parity_error
    )


def _fit(
    keras: Any,
    network: Any,
    dataset: Dataset,
    encoding: Encoding,
    config: TrainingConfig,
    observer: Observer,
) -> None:
    batches = -(-len(dataset.train) // config.batch_size)

    class _Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        done = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.done += 1
            observer.on_batch(self.done, batches * config.epochs)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            figures = (logs[key] for key in ("loss", "accuracy", "val_loss", "val_accuracy"))
            observer.on_epoch(Epoch(epoch + 1, *(float(figure) for figure in figures)))

    network.fit(
        _codes(last_windows(dataset.train, encoding)),
        labels(dataset.train),
        epochs=config.epochs,
        batch_size=config.batch_size,
        validation_data=(_codes(last_windows(dataset.test, encoding)), labels(dataset.test)),
        callbacks=[_Reporter()],
        verbose=0,
    )


def _codes(windows: NDArray[np.void]) -> NDArray[np.int32]:
    return windows["action"].astype(np.int32)


def _parity_error(network: Any, scorer: Scorer, windows: NDArray[np.void]) -> float:
    """Return the largest difference of the graph's scores from Keras'."""
    expected = network.predict(_codes(windows), batch_size=1024, verbose=0)[:, 0]
    error = float(np.abs(scorer.score(windows) - expected).max())
    if not error <= MAX_PARITY_ERROR:  # not `>`, which a NaN would pass
        raise TrainingError(
            f"the exported graph's scores differ from Keras' by {error}: expected at most {MAX_PARITY_ERROR}; "
            "report it with the versions of tensorflow, onnx and onnxruntime"
        )
    return error


def _canaries(encoding: Encoding, scorer: Scorer, seed: int) -> list[Canary]:
    """Pick random sessions whose scores spread evenly from 0 to 1, as far as there are such.

    Real sessions won't do: they score almost 0 or almost 1, where the sigmoid hides what went wrong before it.
    """
    rng = np.random.RandomState(seed)
    pool = [
        tuple(rng.choice(encoding.vocabulary, size=rng.randint(1, encoding.window + 3)).tolist())
        for _ in range(CANARY_POOL)
    ]
    scores = scorer.score(encoding.windows([encoding.steps(actions) for actions in pool]))
    targets = np.linspace(0, 1, CANARIES)
    picked = np.unique(np.abs(scores - targets[:, np.newaxis]).argmin(axis=1)).tolist()
    return [Canary(actions=list(pool[index]), score=float(scores[index])) for index in picked]


def _metrics(classification: Classification, serving: Serving, parity_error: float) -> dict[str, float]:
    figures = msgspec.structs.asdict(classification) | msgspec.structs.asdict(serving)
    return {name: float(figure) for name, figure in figures.items()} | {"parity_error": parity_error}


def _libraries() -> dict[str, str]:
    names = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
