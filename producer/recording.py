"""Recordings: JSON lines of events as they are published, and of truth labels; gzip by the suffix .gz."""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self, cast

import msgspec

from detector.contract.events import MalformedEventError, decode_event
from detector.contract.labels import SessionLabel, encode_label
from detector.contract.topics import MAX_RECORD_BYTES
from detector.formats.wire import AS_IT_COMES, WireFormat
from detector.writing import written_whole
from producer.behaviour.session import SimulatedSession
from producer.publisher import Record


class RecordingError(Exception):
    """A recording can't be read on. The message says where, what was seen, and what to do."""


class SpanningLabel(SessionLabel, frozen=True, kw_only=True):
    """The truth of one session of an attack that can span several.

    Attributes:
        attack_id: the same for all sessions of the attack.
        stage: what the attacker does in this one.
    """

    attack_id: str
    stage: str


def label_of(session: SimulatedSession) -> SessionLabel:
    """Return the label of `session`."""
    label = SessionLabel(
        session_id=session.session_id,
        label=session.label,
        type=session.kind,
        customer_type=session.customer_type,
        actions=len(session.actions),
        attack_from=session.attack_from,
    )
    if not session.attack_id:
        return label
    return SpanningLabel(**msgspec.structs.asdict(label), attack_id=session.attack_id, stage=session.stage)


@contextmanager
def create(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing lines, compressed if it ends in .gz; the same lines make the same bytes.

    It takes its place once the block has ended well.

    Raises:
        OSError: the file can't be created or written.
    """
    with written_whole(path) as raw:
        if path.suffix != ".gz":
            yield raw
            return
        # Without a name and a time in the gzip header, so that the bytes depend on the content alone.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
            yield cast("BinaryIO", packed)


def labelled(
    scheduled: Iterable[tuple[int, SimulatedSession]], labels: BinaryIO
) -> Iterator[tuple[int, SimulatedSession]]:
    """Pass a schedule through, writing each session's label as it begins."""
    for begins_ms, session in scheduled:
        labels.write(encode_label(label_of(session)) + b"\n")
        yield begins_ms, session


class Recording:
    """The events of a file, read lazily in order."""

    def __init__(self, path: Path, *, skip_bad_lines: bool = False, wire: WireFormat = AS_IT_COMES) -> None:
        """Open `path`, whose lines carry events so; one without is an error, or skipped and counted with `skip_bad_lines`.

        Raises:
            OSError: the file can't be opened.
        """
        self.size_bytes = path.stat().st_size
        self.skipped: list[int] = []
        """Numbers of the first lines skipped, at most `KEPT_LINE_NUMBERS`."""
        self.skipped_count = 0
        self._path, self._event_of = path, wire.event_of(decode_event)
        self._skip_bad_lines = skip_bad_lines
        self._raw = path.open("rb")

    KEPT_LINE_NUMBERS = 20

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def position_bytes(self) -> int:
        """How far the file has been read, of `size_bytes`."""
        return self._raw.tell()

    def records(self) -> Iterator[Record]:
        """Yield each event with the bytes of its line, as they are.

        Raises:
            RecordingError: a line is no event (unless skipped), or the compressed data is damaged.
        """
        number = 0
        try:
            for number, line in enumerate(self._lines(), start=1):
                try:
                    yield Record(self._event_of(line), line)
                except MalformedEventError as error:
                    if not self._skip_bad_lines:
                        raise RecordingError(
                            f"{self._path}, line {number}: {error}. Expected one event in JSON a line. Nothing from this "
                            "line on was published; mend the line, or leave such lines out with --skip-bad-lines."
                        ) from error
                    self.skipped_count += 1
                    if len(self.skipped) < self.KEPT_LINE_NUMBERS:
                        self.skipped.append(number)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise RecordingError(
                f"{self._path}, after line {number}: the gzip data is damaged or cut off ({error}). Nothing after that "
                "line was published; fetch the file again, or name it without .gz if it is not compressed."
            ) from error

    def _lines(self) -> Iterator[bytes]:
        # The suffix decides, as it does when writing.
        source = gzip.GzipFile(fileobj=self._raw) if self._path.suffix == ".gz" else self._raw
        while line := source.readline(
            MAX_RECORD_BYTES
        ):  # a line longer than any record comes in pieces: bad lines
            yield line.rstrip(b"\r\n")
