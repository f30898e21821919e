"""Owners: whether every partition of the input is somebody's, as seen from the group's coordinator."""

import time
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaError

from detector.runtime.config import DetectorConfig
from detector.runtime.recovery import MemberFencedError
from detector.runtime.topics import partition_count

_INTERVAL_S = 10.0
_SETTLED = {"Stable", "Empty"}
"""States in which the group waits for nothing. While a worker looks, it is not empty for long."""


class Owners:
    """Looks for partitions that a settled group has given to nobody, which nothing else would notice.

    The member that leads a rebalance assigns what its metadata holds. Where that lacked the topic for a moment,
    kafka-python assigns nothing and takes the assignment for complete: the group is stable, every member waits, and
    the lag grows.

    Args:
        admin: a KafkaAdminClient.
        config: names group and topic.
        clock_s: a monotonic clock, in seconds.
    """

    def __init__(
        self, admin: Any, config: DetectorConfig, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._admin = admin
        self._config = config
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._unowned: frozenset[int] = frozenset()

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            MemberFencedError: the same partitions had no owner twice, an interval apart: joining anew makes the
                group share them out again.
        """
        now_s = self._clock_s()
        if now_s - self._looked_s < _INTERVAL_S:
            return
        self._looked_s = now_s
        before, self._unowned = self._unowned, self._look()
        if left := sorted(before & self._unowned):
            self._unowned = frozenset()
            raise MemberFencedError(
                f"partitions {left} of {self._config.input_topic} have no owner in a settled group"
            )

    def _look(self) -> frozenset[int]:
        group, topic = self._config.group, self._config.input_topic
        try:
            described = self._admin.describe_groups([group])[group]
            if described["group_state"] not in _SETTLED:
                return frozenset()
            every = range(partition_count(self._admin, topic))
        except (KafkaError, KeyError):
            return frozenset()  # the coordinator is elsewhere or on its way back: the next look tells
        owned = {
            number
            for member in described["members"]
            for assigned in member["member_assignment"]["assigned_partitions"]
            if assigned["topic"] == topic
            for number in assigned["partitions"]
        }
        return frozenset(every) - owned
