"""Refusals: what topics take no record as large as, and which records of the input are left out for it.

A record whose alert is refused becomes a dead letter, and what comes after it is decided as if it had not been there: an
alert that was refused along with it may then not come at all. So of each partition the first is left out, and the batch
ends with it: what is left out is what would be if records came one by one, however the log is cut.
"""

from collections.abc import Mapping, Sequence

from kafka import TopicPartition

from detector.client.reading import Batch
from detector.core.partition import Partition
from detector.runtime.config import DetectorConfig
from detector.runtime.outputs import output_records
from detector.runtime.processing import Processed, Processor
from detector.runtime.recovery import Origin, RecordRefusedError, TopicsUnfitError


class Refusals:
    """What a worker knows to be refused, until a batch is committed of which nothing is.

    Args:
        config: names the topics.

    Attributes:
        known: why what came of a record of the input can't be published.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        self._least: dict[str, tuple[int, str]] = {}
        self._foresaw = False
        self.known: dict[Origin, str] = {}

    def learn(self, refusal: RecordRefusedError) -> None:
        """Take note of what topics have refused.

        Raises:
            TopicsUnfitError: it is of no record of the input, so that nothing can be left out.
        """
        config = self._config
        if not refusal.least_bytes.keys() <= {
            config.alerts_topic,
            config.shadow_topic,
            config.dead_letter_topic,
        }:
            raise _unfit(str(refusal)) from refusal
        for topic, size_bytes in refusal.least_bytes.items():
            known_bytes, _ = self._least.get(topic, (size_bytes, ""))
            self._least[topic] = min(size_bytes, known_bytes), str(refusal)

    def process(
        self, processor: Processor, records: Batch, partitions: Mapping[TopicPartition, Partition]
    ) -> list[Processed]:
        """Process the next records of some partitions, of each up to the first whose alert would be refused.

        Raises:
            TopicsUnfitError: not even a dead letter without its content is taken.
        """
        processed, self._foresaw = processor.process(records, partitions, self.known), False
        while (ends := self._foreseen(processed)) is not None:
            records = {
                source: [one for one in read if one.offset < ends.get(source, one.offset + 1)]
                for source, read in records.items()
            }
            processed, self._foresaw = processor.process(records, partitions, self.known), True
        return processed

    def _foreseen(self, processed: Sequence[Processed]) -> dict[TopicPartition, int] | None:
        """Take note of what would be refused; return up to where partitions are to be read for it, None if nothing would.

        An alert before it may be refused as well, if its topic takes even less: only what comes first is left out, and
        before any other the batch ends.
        """
        ends, found = dict[TopicPartition, int](), dict[Origin, str]()
        for one in processed if self._least else ():
            alerts = 0
            for record in output_records(one, self._config, self.known):
                is_alert = record.topic == self._config.alerts_topic
                least_bytes, why = self._least.get(record.topic, (None, ""))
                if least_bytes is None or record.size_bytes < least_bytes or record.origin is None:
                    alerts += is_alert
                    continue
                source, offset = record.origin
                if record.origin in self.known:
                    raise _unfit(why)
                if not is_alert or offset is None:
                    found[record.origin] = why
                elif source not in ends:
                    ends[source] = offset if alerts else offset + 1
                    if not alerts:
                        found[record.origin] = why
        self.known |= found
        return ends if found or ends else None

    def committed(self, ends: Mapping[TopicPartition, int]) -> None:
        """Forget what was committed, and what topics refuse if nothing would have been: they may take more by now.

        Args:
            ends: next offset of each partition that was.
        """
        self.known = {
            (source, offset): why
            for (source, offset), why in self.known.items()
            if source not in ends or (offset is not None and offset >= ends[source])
        }
        if not self._foresaw:
            self._least.clear()


def _unfit(why: str) -> TopicsUnfitError:
    return TopicsUnfitError(
        f"{why} and start again; nothing is lost, the batch was aborted and is read again"
    )
