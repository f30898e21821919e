"""The broker's jars: pinned by checksum, fetched once, verified at every start.

`kafka.lock.json` lists every artifact of the class path with its SHA-256. It is what gets fetched, so nothing is
resolved over the network at run time and a start with a full cache needs no network at all. jgo does the
fetching; its own checksum check only warns, and its environments would download a JDK 11 to classify modules,
so its `MavenContext` is used directly and each jar is moved into the cache only once its digest is right.
"""

import dataclasses
import hashlib
import json
import logging
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from broker.errors import JarsUnavailableError

KAFKA_VERSION = "4.1.0"

_ENDPOINTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # The slf4j binding, without which Kafka logs nothing. Raw (`!`): jgo takes the dependency management of every
    # endpoint for all of them, and Log4j's would put kafka-clients back to 3.8.0.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3!",
)
_LOCK = Path(__file__).with_name("kafka.lock.json")
_FETCHES_AT_ONCE = 8
_HTTP_TIMEOUT_S = 30

_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The user's cache folder for these jars: below `XDG_CACHE_HOME` if set, else where the platform keeps caches."""
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        base = Path(xdg)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "session-fraud-detector" / f"kafka-{KAFKA_VERSION}"


def class_path(lock: Path = _LOCK) -> list[Path]:
    """The verified jars of the broker, or of another lock file, fetched where the cache lacks them or they are damaged.

    Safe against a second process doing the same and against being killed half way: a jar reaches the cache by a
    rename, after its digest has been checked.

    Raises:
        JarsUnavailableError: the cache folder cannot be written, a jar cannot be fetched, or is not the pinned one.
    """
    locked: dict[str, str] = json.loads(lock.read_bytes())
    cache = cache_dir()
    paths = {coordinate: cache / _file_name(coordinate) for coordinate in locked}
    missing = {
        c: digest for c, digest in locked.items() if not paths[c].exists() or _sha256(paths[c]) != digest
    }
    if missing:
        _log.info("fetching Apache Kafka %s, %d jars, into %s (once)", KAFKA_VERSION, len(missing), cache)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _fetch(missing, cache)
        except OSError as error:  # requests' exceptions are OSErrors too
            raise JarsUnavailableError(
                f"could not fetch Apache Kafka {KAFKA_VERSION} into {cache}: {error}. Expected {len(missing)} jars from"
                " the Maven repository. Check the network, the proxy settings and that the folder can be written;"
                " jgo's configuration file may name another repository as `central`"
            ) from error
    return list(paths.values())


def _fetch(missing: dict[str, str], cache: Path) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415 - 0.3 s that a start with a full cache is spared

    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as staging:
        context = MavenContext(
            repo_cache=Path(staging), remote_repos=_repositories(), timeout=_HTTP_TIMEOUT_S
        )
        artifacts = []
        for coordinate in missing:
            group, name, version = coordinate.split(":")
            artifacts.append(context.project(group, name).at_version(version).artifact())
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            fetched = pool.map(lambda artifact: artifact.resolve(), artifacts)
            try:
                for (coordinate, digest), path in zip(missing.items(), fetched, strict=True):
                    if (seen := _sha256(path)) != digest:
                        raise JarsUnavailableError(
                            f"{coordinate} as fetched has SHA-256 {seen}, expected {digest} ({_LOCK.name}). The download"
                            " was cut short or the repository serves another file: try again, then check the repository"
                        )
                    path.replace(cache / _file_name(coordinate))
            except RuntimeError as error:  # jgo's "not found in remote repositories"
                raise JarsUnavailableError(
                    f"could not fetch Apache Kafka {KAFKA_VERSION}: {error}. Expected every artifact of {_LOCK.name}"
                    " in the Maven repository. Check jgo's configuration file if it names another one"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def resolve_lock() -> dict[str, str]:
    """Resolve the broker's dependencies anew over the network: `{"group:artifact:version": SHA-256}`, sorted.

    For `python -m broker lock`, which rewrites the lock after a change of version here.
    """
    from jgo.maven import MavenContext  # noqa: PLC0415 - as above
    from jgo.parse import Coordinate  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as staging:
        context = MavenContext(
            repo_cache=Path(staging), remote_repos=_repositories(), timeout=_HTTP_TIMEOUT_S
        )
        coordinates = [dataclasses.replace(Coordinate.parse(e), scope="compile") for e in _ENDPOINTS]
        inputs, transitive = context.resolver.resolve([context.create_dependency(c) for c in coordinates])
        artifacts: list[Any] = [d.artifact for d in inputs]
        artifacts += [d.artifact for d in transitive if d.scope in {"compile", "runtime"}]
        return dict(
            sorted((f"{a.groupId}:{a.artifactId}:{a.version}", _sha256(a.resolve())) for a in artifacts)
        )


def write_lock() -> Path:
    """Rewrite the lock file from `resolve_lock`; returns its path."""
    _LOCK.write_text(json.dumps(resolve_lock(), indent=2) + "\n", encoding="utf-8")
    return _LOCK


def _repositories() -> dict[str, str]:
    """Maven Central, unless jgo's own configuration file names another `central` or more repositories."""
    from jgo.config import GlobalSettings  # noqa: PLC0415 - as above
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - as above

    return {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}


def _file_name(coordinate: str) -> str:
    _group, name, version = coordinate.split(":")
    return f"{name}-{version}.jar"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
