"""What can go wrong with a batch, named after the recovery it demands (as Kafka Streams names its own)."""

from collections.abc import Mapping

from kafka import TopicPartition

Origin = tuple[TopicPartition, int | None]
"""The record of the input that a record is of, by its offset; without one, what a challenger makes of the partition."""


class BatchAbortedError(Exception):
    """The transaction was aborted and nothing of it can be read. Rewind and try the batch again."""


class MemberFencedError(Exception):
    """The group went on without this worker: its partitions are another's. Drop everything and rejoin."""


class OutcomeUnknownError(Exception):
    """The commit's outcome, or the producer's, is unknown. Fence what may be open, drop everything, restore."""


class RecordRefusedError(Exception):
    """Topics refuse records for their size, which no retry mends. Produce anew, and leave out what they are of.

    Attributes:
        least_bytes: by topic, the size of the smallest that it refused.
    """

    def __init__(self, message: str, least_bytes: Mapping[str, int]) -> None:
        super().__init__(message)
        self.least_bytes = least_bytes


TRANSACTION_FAILURES = (BatchAbortedError, OutcomeUnknownError, RecordRefusedError)
"""What a transaction without offsets can end with."""


class StateRefusedError(Exception):
    """The stored state can't be used. The message says why and what the operator can do; the service ends.

    Attributes:
        next_offset: the input was read up to there at least, as far as the state could be read.
    """

    def __init__(self, message: str, next_offset: int = 0) -> None:
        super().__init__(message)
        self.next_offset = next_offset


class TopicsUnfitError(Exception):
    """The topics don't fit each other or can't be made. The message says what to do; the service ends."""


class StoppedError(Exception):
    """Asked to stop in the middle of something long. Leave the group; there is nothing to recover."""
