"""Refusals: what topics take no record as large as, and which records of the input are left out for it.

A record whose alert is refused becomes a dead letter, and what comes after it is decided as if it had not been there: an
alert that was refused along with it may then not come at all. So what is left out is what would be if records came one by
one, which is found by halves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition

from detector.client.reading import Batch
from detector.core.partition import Partition
from detector.runtime.config import DetectorConfig
from detector.runtime.outputs import output_records
from detector.runtime.processing import Processed, Processor
from detector.runtime.recovery import Origin, RecordRefusedError, TopicsUnfitError


class Refusals:
    """What a worker knows to be refused, of the batch that was: a topic may take more of the next.

    Args:
        config: names the topics.

    Attributes:
        known: why what comes of a record of the input last processed can't be published.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._least: dict[str, tuple[int, str]] = {}
        self._read: dict[TopicPartition, int] = {}
        self._until: dict[TopicPartition, int] = {}
        self.known: dict[Origin, str] = {}

    def learn(self, refusal: RecordRefusedError) -> bool:
        """Take note of what topics have refused of what was last processed; tell whether that is news.

        Raises:
            TopicsUnfitError: it is of no record of the input, so that nothing can be left out.
        """
        config = self._config
        topics = {config.alerts_topic, config.shadow_topic, config.dead_letter_topic}
        if not refusal.least_bytes.keys() <= topics:
            raise _unfit(str(refusal)) from refusal
        # What is read again after a refusal may be less, and of fewer partitions.
        read = {source: max(end, self._until.get(source, end)) for source, end in self._read.items()}
        until = self._until | read
        less = {
            topic: (size_bytes, str(refusal))
            for topic, size_bytes in refusal.least_bytes.items()
            if topic not in self._least or size_bytes < self._least[topic][0]
        }
        news = bool(less) or until != self._until
        self._least, self._until = self._least | less, until
        return news

    def process(
        self, processor: Processor, records: Batch, partitions: Mapping[TopicPartition, Partition]
    ) -> list[Processed]:
        """Process the next records of some partitions, without those of which something would be refused.

        Raises:
            TopicsUnfitError: not even a dead letter without its content is taken.
        """
        self.known = {}
        self._read = {source: read[-1].offset + 1 for source, read in records.items()}
        self._until = {
            source: until
            for source, until in self._until.items()
            if source in partitions and partitions[source].next_offset < until
        }
        if not self._until:
            self._least.clear()
        return [
            self._halved(processor, records[one.source], partitions, one)
            for one in processor.process(records, partitions)
        ]

    def _halved(
        self,
        processor: Processor,
        records: Sequence[Any],
        partitions: Mapping[TopicPartition, Partition],
        processed: Processed,
        after: Processed | None = None,
    ) -> Processed:
        """Return what records come to without those of which something would be refused, given what they come to with them."""
        refused = self._refused(processed)
        if not refused:
            return processed
        source, half = processed.source, len(records) // 2
        if not half:
            for origin, why in refused.items():
                if origin in self.known:
                    raise _unfit(why)
                self.known[origin] = why
            (processed,) = processor.process({source: records}, partitions, self.known, after)
            return self._halved(processor, records, partitions, processed, after)
        (first,) = processor.process({source: records[:half]}, partitions, self.known, after)
        first = self._halved(processor, records[:half], partitions, first, after)
        before = first if after is None else after.then(first)
        (rest,) = processor.process({source: records[half:]}, partitions, self.known, before)
        return first.then(self._halved(processor, records[half:], partitions, rest, before))

    def _refused(self, processed: Processed) -> dict[Origin, str]:
        """Return the records of the input of which something would be refused, and why."""
        until, found = self._until.get(processed.source, 0), dict[Origin, str]()
        for record in output_records(processed, self._config, self.known) if until else ():
            if record.origin is None or (record.origin[1] or 0) >= until:
                continue
            least_bytes, why = self._least.get(record.topic, (record.size_bytes + 1, ""))
            if record.size_bytes >= least_bytes:
                found[record.origin] = why
        return found


def _unfit(why: str) -> TopicsUnfitError:
    return TopicsUnfitError(
        f"{why} and start again; nothing is lost, the batch was aborted and is read again"
    )
