"""Writing the state log of one partition: deltas, and when it pays the whole."""

from detector.core.partition import Delta, Partition
from detector.runtime.state_log import encode_delta, encode_snapshot


class StateWriter:
    """What to write with the next transaction, and how much has been written.

    A snapshot is due when the changes outweigh the last one by `ratio`: snapshots then add at most 1 / ratio to
    the changes written, and restoring reads at most 1 + ratio times the state.

    Args:
        ratio: as above.
        min_bytes: no snapshot before that many bytes of changes.
        encoding: fingerprint of the model's encoding.
        log_bytes: size of the log as it was restored, counted as changes; None if the log is of no use and a snapshot
            must replace it at once.
    """

    def __init__(self, ratio: int, min_bytes: int, encoding: bytes, log_bytes: int | None) -> None:
        self._ratio = ratio
        self._min_bytes = min_bytes
        self._encoding = encoding
        self._snapshot_bytes = 0
        self._delta_bytes = log_bytes or 0
        self._log_is_useless = log_bytes is None

    def values(self, partition: Partition, delta: Delta) -> tuple[list[bytes], list[bytes]]:
        """Encode what the next transaction writes, in this order.

        Returns:
            the snapshot of the partition as it is before the batch, empty if none is due; and the batch's delta.
        """
        snapshot: list[bytes] = []
        outweighed = self._delta_bytes > max(self._min_bytes, self._ratio * self._snapshot_bytes)
        if outweighed or self._log_is_useless:
            snapshot = list(encode_snapshot(partition, self._encoding))
        return snapshot, [encode_delta(delta, self._encoding)]

    def committed(self, snapshot: list[bytes], delta: list[bytes]) -> None:
        """Count what a committed transaction wrote."""
        if snapshot:
            self._snapshot_bytes, self._delta_bytes = sum(map(len, snapshot)), 0
            self._log_is_useless = False
        self._delta_bytes += sum(map(len, delta))
