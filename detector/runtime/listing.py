"""Listing accounts: the change goes to every partition of the input and to the accounts topic, or nowhere.

In the input it lies between the events of each partition, so that the log alone says which event is the first that it
holds for. The accounts topic keeps the last listing of each account, for people and for partitions that are new.
"""

import itertools
from collections.abc import Iterable, Sequence
from contextlib import closing

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from detector.connection import client_options
from detector.contract.listings import AccountListing, Listing, decode_listing, encode_listing
from detector.contract.topics import accounts_specification
from detector.runtime.config import DetectorConfig
from detector.runtime.replaying import batches_of_topic
from detector.runtime.topics import create_missing, input_partitions
from detector.runtime.transaction import OutputRecord, Transactor, in_every_partition

_ACCOUNTS_A_TRANSACTION = 500


class ListedAccounts:
    """The listed accounts of an input topic. Of two that publish at once, the second takes over and the first fails.

    Args:
        config: names broker and topics.

    Raises:
        TopicsUnfitError: there is no such input topic, or the accounts topic is missing and may not be created.
        KafkaError: the broker can't be reached or refuses.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        with closing(KafkaAdminClient(**client_options(config.bootstrap_servers))) as admin:
            self._partitions = input_partitions(admin, config.input_topic, config.bootstrap_servers)
            create_missing(admin, config, [accounts_specification(config.input_topic)])
            self._source = TopicPartition(config.accounts_topic, 0)
            self._end = admin.list_partition_offsets({self._source: OffsetSpec.LATEST})[self._source].offset

    def listed(self) -> dict[str, Listing]:
        """Return the accounts that were listed when this object was made."""
        listed: dict[str, Listing] = {}
        for batch in batches_of_topic(self._config, {self._source: (0, self._end)}):
            for record in itertools.chain.from_iterable(batch.values()):
                account_id = record.key.decode()
                listed.pop(account_id, None)
                if record.value is not None and (listing := decode_listing(record.value).listing):
                    listed[account_id] = listing
        return listed

    def publish(self, listings: Iterable[AccountListing]) -> int:
        """Publish listings, each to the accounts topic and to all partitions of the input; return to how many.

        Raises:
            BatchAbortedError: nothing of the last transaction was published.
            OutcomeUnknownError: it was published or not; publishing it again does no harm.
        """
        remaining = iter(listings)
        with Transactor(self._config, self._config.accounts_topic) as transactor:
            while chunk := list(itertools.islice(remaining, _ACCOUNTS_A_TRANSACTION)):
                transactor.commit(self._records(chunk), {}, None)
        return self._partitions

    def _records(self, listings: Sequence[AccountListing]) -> list[OutputRecord]:
        records = []
        for one in listings:
            key, value = one.account_id.encode(), encode_listing(one)
            kept = None if one.listing is None else value
            records.append(OutputRecord(self._config.accounts_topic, key, kept, []))
            records += in_every_partition(self._config.input_topic, key, value, self._partitions)
        return records
