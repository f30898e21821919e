"""The demo's child processes: each with a log of its own, each ended by its process id."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_TIMEOUT_S = 15.0
_TAIL_LINES = 15


class ChildFailedError(Exception):
    """A child ended on its own, and not well. The message holds the end of its log."""


class Child:
    """`python -m MODULE ARGUMENTS…`, in a session of its own so that Ctrl-C reaches only the demo.

    A context manager: leaving it ends the process, by SIGTERM and if need be SIGKILL.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = module
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own modules
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def finished(self) -> bool:
        """Tell whether it ended.

        Raises:
            ChildFailedError: it ended with an exit code other than 0.
        """
        code = self._process.poll()
        if code:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
            raise ChildFailedError(
                f"{self.name} ended with exit code {code}, expected 0. The end of its log:\n{tail}"
            )
        return code is not None

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.stop()
