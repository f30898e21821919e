"""TensorFlow, imported late, quietly, and set to compute the same again."""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Literal

Device = Literal["cpu", "gpu"]

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # oneDNN picks the order of its sums by CPU
    "TF_NUM_INTRAOP_THREADS": "1",  # so would the number of cores
    "TF_NUM_INTEROP_THREADS": "1",
}


class BackendMissingError(RuntimeError):
    """What training needs is not installed, or not in this machine."""


def keras_on(device: Device, seed: int) -> Any:
    """Import Keras on TensorFlow, seeded, and return it.

    On the CPU weights are the same for the same seed, libraries and kind of CPU. Another kind of CPU may round otherwise
    (Eigen picks its kernels by the instructions it finds), and training amplifies that.

    Raises:
        BackendMissingError: TensorFlow or onnx is not installed, or sees no such device.
    """
    os.environ.update(_ENVIRONMENT)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # an accelerator would give other weights
    try:
        with _native_stderr_muted():
            import keras  # noqa: PLC0415  takes seconds, and --help must not
            import onnx  # noqa: F401, PLC0415  needed after the training, so missed before it
            import tensorflow as tf  # noqa: PLC0415

            found = tf.config.list_physical_devices()
    except ImportError as error:
        raise BackendMissingError(
            f"training needs TensorFlow and onnx ({error}): run `make venv` in a checkout, or install "
            "session-fraud-detector[train]"
        ) from error
    if device == "gpu" and not any(one.device_type == "GPU" for one in found):
        raise BackendMissingError(
            f"TensorFlow {tf.__version__} finds {', '.join(one.name for one in found)}: expected an accelerator for "
            "--device gpu; install its driver and a TensorFlow built for it, or train with --device cpu"
        )
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    return keras


def versions() -> dict[str, str]:
    """Return the versions of what trains and exports, Python's among them."""
    names = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


@contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """Drop what native code writes to file descriptor 2: TensorFlow logs there before its log level holds."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
