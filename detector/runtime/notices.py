"""Notices: what a worker's log says of the records it takes, each kind once; metrics count on."""

import logging
from collections import Counter
from collections.abc import Callable

from detector.contract.dead_letters import Reason
from detector.runtime.processing import Processed

_LOG = logging.getLogger(__name__)
_TELLING_EVENTS = 1_000
"""After so many events fields that none of them has are told of."""
_TELLING_LATE, _TELLING_LATE_SHARE = 20, 0.1
"""Of late events it takes so many in a batch, and such a share of it."""


class Absences:
    """Which of the fields that a model's signals read no event has had so far."""

    def __init__(self) -> None:
        self._events, self._absent = Counter[str](), Counter[str]()

    def add(self, processed: Processed) -> None:
        """Take in what some records came to."""
        for field, count in processed.absent.items():
            self._events[field] += processed.events
            self._absent[field] += count

    def told(self, least: int = 1) -> str:
        """Return what is to be said of fields that none of at least so many events had; empty if there are none."""
        never = [
            field for field, count in self._events.items() if count >= least and count == self._absent[field]
        ]
        if not never:
            return ""
        return (
            f"none of {max(self._events[field] for field in never):,} events has {', '.join(never)}, which signals of the "
            "model read: they are scored without. Expected events with these fields, by these names; of a table, "
            "`python -m trainer events` makes such. See docs/how-to/own-data.md"
        )


class Notices:
    """Tells of records that are not as expected, and whom to believe.

    Args:
        pseudonym: of an id.
    """

    def __init__(self, pseudonym: Callable[[str], str]) -> None:
        self._pseudonym = pseudonym
        self._absences = Absences()
        self._told_of_keys = self._told_of_fields = self._told_of_times = False
        self._told_of_reasons = set[Reason]()

    def take(self, processed: Processed) -> None:
        """Tell of what is new in what some records came to."""
        self._keys(processed)
        self._fields(processed)
        self._times(processed)
        self._letters(processed)

    def _keys(self, processed: Processed) -> None:
        if processed.miskeyed and not self._told_of_keys:
            self._told_of_keys = True
            _LOG.warning(
                "%s[%d]: %d of %d records are keyed otherwise: %s. Told once; detector_keyed_otherwise_total counts on",
                *processed.source,
                processed.keyed_otherwise,
                processed.records,
                processed.miskeyed.told(self._pseudonym),
            )

    def _fields(self, processed: Processed) -> None:
        self._absences.add(processed)
        if not self._told_of_fields and (told := self._absences.told(_TELLING_EVENTS)):
            self._told_of_fields = True
            _LOG.warning("%s. Told once; detector_absent_fields_total counts on", told)

    def _times(self, processed: Processed) -> None:
        late = processed.outcome.late
        if not self._told_of_times and late >= max(_TELLING_LATE, _TELLING_LATE_SHARE * processed.records):
            self._told_of_times = True
            _LOG.warning(
                "%s[%d]: %d of %d records happened longer ago than --time-tolerance-ms, by what time it is in the partition: "
                "they are scored as of now, at the pace at which they come. Expected events as they happen; a recording "
                "behind newer events wants a topic of its own, or --clock event. See docs/operations.md#time. Told once; "
                "detector_corrected_times_total counts on",
                *processed.source,
                late,
                processed.records,
            )

    def _letters(self, processed: Processed) -> None:
        for letter in processed.letters:
            if letter.reason not in self._told_of_reasons:
                self._told_of_reasons.add(letter.reason)
                _LOG.warning(
                    "%s[%d]: the record at offset %d comes to a dead letter: %s. The letter says more (dlq-detail). Told "
                    "once for each reason; detector_dead_letters_total counts on",
                    *processed.source,
                    letter.offset,
                    letter.reason.value,
                )
        if failures := processed.outcome.failures:
            _LOG.error(
                "%s[%d]: %d records come to nothing but dead letters, the first at offset %d: %s: %s",
                *processed.source,
                len(failures),
                *failures[0],
            )
