"""Hot reload: a file of a model or of rules that changed is checked beside the loop, and handed over when the loop asks."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from detector.model.artifact import Model, ModelRefusedError, load_model
from detector.model.rules import Rules, RulesRefusedError, load_rules
from detector.runtime.periodic import Periodic

_LOG = logging.getLogger(__name__)

_Signature = tuple[int, int, int]
REFUSED, LOADED = "refused", "loaded"
_MISSES = 2
"""Looks that miss a file before it is called gone: one may fall between two renames."""


class _Sealed(Protocol):
    @property
    def sha256(self) -> str: ...


_Kind = TypeVar("_Kind", bound=_Sealed)


class FileWatch(Periodic, ABC, Generic[_Kind]):
    """Watches a file. A context manager; outside it nothing is watched.

    It is looked at when its modification time, size or inode changed, and loaded with all its checks. A refused file
    changes nothing, and is not looked at again until it changes. Nor does one that is gone, which is told at the second
    look that misses it.

    Args:
        path: of the file; replace it by renaming another onto it, so that no half of it is ever seen.
        current: what is in service.
        interval_s: seconds between looks.
        count: called with REFUSED or LOADED for each file looked at that is another one.
    """

    def __init__(
        self, path: Path, current: _Kind, interval_s: float, count: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(self.look, interval_s, "file-watch")
        self._path = path
        self._current = current
        self._count = count
        self._seen: _Signature | None = None  # it may have changed since it was loaded
        self._missed = 0
        self._lock = threading.Lock()
        self._fresh: _Kind | None = None

    @abstractmethod
    def _load(self) -> _Kind:
        """Load the file, if it fits what is in service."""

    @abstractmethod
    def _named(self, one: _Kind) -> str:
        """Name one in the log."""

    def take(self) -> _Kind | None:
        """Return what to go on with, once, if there is a new one."""
        with self._lock:
            fresh, self._fresh = self._fresh, None
        return fresh

    def look(self) -> None:
        """Look at the file now."""
        signature = _signature(self._path)
        self._missed = self._missed + 1 if signature is None else 0
        if self._missed == _MISSES:
            _LOG.warning("%s is gone. %s stays in service", self._path, self._named(self._current))
        if signature is None or signature == self._seen:
            return
        self._seen = signature
        try:
            fresh = self._load()
        except Exception as error:  # noqa: BLE001  whatever is wrong with it: the next file is looked at
            self._count(REFUSED)
            foreseen = isinstance(error, ModelRefusedError | RulesRefusedError)
            _LOG.error("%s. %s stays in service", error, self._named(self._current), exc_info=not foreseen)
            return
        if fresh.sha256 == self._current.sha256:
            return
        _LOG.warning("%s takes the place of %s", self._named(fresh), self._named(self._current))
        self._current = fresh
        with self._lock:
            self._fresh = fresh
        self._count(LOADED)  # from here on whatever is read is the new one's to decide


class ModelWatch(FileWatch[Model]):
    """Watches a model file.

    It is refused if its seal or canaries fail, or if live sessions can't be scored with it: the state is written in the
    vocabulary, window, gap buckets and signals of the model in service.
    """

    def _load(self) -> Model:
        model = load_model(self._path, self._current.unknown_actions)
        if model.encoding.fingerprint != self._current.encoding.fingerprint:
            raise ModelRefusedError(
                f"model file {self._path} is refused: it has another vocabulary, window, gap buckets, signals or "
                "ends of sessions than the model in service, in whose steps the live sessions are kept: expected the same "
                "ones; start the detector anew with it, as docs/operations.md tells"
            )
        return model

    def _named(self, one: Model) -> str:
        return f"model {one.reference}"


class RulesWatch(FileWatch[Rules]):
    """Watches a rules file, whose rules have to fit what the model in service reads; as any after it reads the same."""

    def _load(self) -> Rules:
        return load_rules(self._path, self._current.encoding)

    def _named(self, one: Rules) -> str:
        return one.told


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
