"""What tests need of the machine beyond Python: missing, they are skipped and say so, but fail in CI."""

import os
import shutil

import pytest


def find(package: str, *names: str) -> str:
    """Return the path of the first of `names` that is installed.

    Raises:
        FileNotFoundError: none is; it names Debian's `package`.
    """
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise FileNotFoundError(f"found none of {', '.join(names)}; on Debian: apt-get install {package}")
    return path


def skip_without(missing: str | None) -> pytest.MarkDecorator:
    """Skip a test if something is missing, unless this is CI, where all must be there."""
    return pytest.mark.skipif(missing is not None and os.environ.get("CI") != "true", reason=str(missing))
