"""Hot reload: a model file that changed is checked beside the loop, and handed over when the loop asks for it."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from detector.model.artifact import Model, ModelRefusedError, load_model

_LOG = logging.getLogger(__name__)

_Signature = tuple[int, int, int]
REFUSED, LOADED = "refused", "loaded"


class ModelWatch:
    """Watches a model file. A context manager; outside it nothing is watched.

    A file is looked at when its modification time, size or inode changed. It is loaded with all its checks, seal
    and canaries among them, and refused if those fail or if live sessions can't be scored with it: the state is
    written in the vocabulary, window, gap buckets and signals of the model in service. A refused file changes nothing, and
    is not looked at again until it changes.

    Args:
        path: of the file; replace it by renaming another onto it, so that no half of it is ever seen.
        current: the model in service.
        interval_s: seconds between looks.
        count: called with REFUSED or LOADED for each file looked at that is another model.
    """

    def __init__(
        self, path: Path, current: Model, interval_s: float, count: Callable[[str], None] = lambda _: None
    ) -> None:
        self._path = path
        self._current = current
        self._interval_s = interval_s
        self._count = count
        self._seen = _signature(path)
        self._lock = threading.Lock()
        self._fresh: Model | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model-watch", daemon=True)

    def take(self) -> Model | None:
        """Return the model to go on with, once, if there is a new one."""
        with self._lock:
            fresh, self._fresh = self._fresh, None
        return fresh

    def look(self) -> None:
        """Look at the file now."""
        signature = _signature(self._path)
        if signature is None or signature == self._seen:
            return  # gone for the moment, as between two renames, or the same
        self._seen = signature
        try:
            model = load_model(self._path, self._current.unknown_actions)
            self._check_encoding(model)
        except ModelRefusedError as error:
            self._count(REFUSED)
            _LOG.error("%s. Model %s stays in service", error, self._current.reference)
            return
        if model.sha256 == self._current.sha256:
            return
        _LOG.warning("model %s takes the place of %s", model.reference, self._current.reference)
        self._current = model
        with self._lock:
            self._fresh = model
        self._count(LOADED)  # from here on whatever is read is the new one's to decide

    def _check_encoding(self, model: Model) -> None:
        if model.encoding.fingerprint != self._current.encoding.fingerprint:
            raise ModelRefusedError(
                f"model file {self._path} is refused: it has another vocabulary, window, gap buckets, signals or "
                "ends of sessions than the model in service, in whose steps the live sessions are kept: expected the same "
                "ones; start the detector anew with it, as docs/operations.md tells"
            )

    def _watch(self) -> None:
        while not self._done.wait(self._interval_s):
            self.look()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._done.set()
        self._thread.join()


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
