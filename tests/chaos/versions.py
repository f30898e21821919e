"""An older version of the detector, from the history of this checkout, to run beside the one that is tested."""

import io
import subprocess
import tarfile
from pathlib import Path

OLD_VERSION = "ff70b10"
"""The last commit whose state log is of format 2: it knows neither a chain nor slices."""
_ROOT = Path(__file__).parents[2]


def has_old_version() -> bool:
    """Tell whether the history reaches back so far: that of a shallow clone or of an archive does not."""
    found = subprocess.run(
        ["git", "-C", _ROOT, "cat-file", "-e", f"{OLD_VERSION}^{{commit}}"], capture_output=True, check=False
    )
    return found.returncode == 0


def unpack_old_version(folder: Path) -> Path:
    """Put the old version's code into a new folder, and return it.

    Raises:
        CalledProcessError: the history does not have it.
    """
    packed = subprocess.run(
        ["git", "-C", _ROOT, "archive", OLD_VERSION, "detector"], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def old_model_file() -> bytes:
    """Return the packaged model of the old version, which the one that is tested reads as well.

    Raises:
        CalledProcessError: the history does not have it.
    """
    path = f"{OLD_VERSION}:detector/model/default.onnx"
    return subprocess.run(["git", "-C", _ROOT, "show", path], capture_output=True, check=True).stdout
