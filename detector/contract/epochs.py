"""Model epochs: from which offset of a partition on which model decides, under which settings.

A record of the topic `<group>.models`, in the transaction of the first batch that it is true of. With the input they
make every alert computable afterwards, whatever models were put in service when.
"""

import msgspec

from detector.contract.alerts import ModelReference


class ModelEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """From an offset on, until the partition's next epoch.

    Attributes:
        topic: of the input, as is `partition`.
        from_offset: of the first event that the model decides.
        model: which one.
        threshold: that blocks.
        review_threshold: that is published for review; null reviews nothing.
        challenge_threshold: that asks for a second factor; null asks for none.
        rules: text of the rules file; null asks none.
        breaker_max_block_share: of the circuit breaker, as are all that are called so; 0 is none.
        partitions: that the input had; it and what follows are settings of the same names; null in epochs of before they were recorded.
        clock: whose time decides; in older epochs it was the event's.
    """

    topic: str
    partition: int
    from_offset: int
    model: ModelReference
    threshold: float
    review_threshold: float | None
    breaker_max_block_share: float
    breaker_min_blocks: int
    breaker_window_ms: int
    rules: str | None = None
    partitions: int | None = None
    challenge_threshold: float | None = None
    breaker_probation_sessions: int | None = None
    step_up_passed: str | None = None
    step_up_failed: str | None = None
    idle_timeout_ms: int | None = None
    max_sessions: int | None = None
    max_accounts: int | None = None
    account_timeout_ms: int | None = None
    max_alerted: int | None = None
    alert_memory_ms: int | None = None
    fraud_listing_ms: int | None = None
    cleared_listing_ms: int | None = None
    max_event_bytes: int | None = None
    max_future_ms: int | None = None
    unknown_actions: str | None = None
    clock: str = "event"
    time_tolerance_ms: int | None = None
    input_format: str | None = None
    field: tuple[str, ...] | None = None


_DECODER = msgspec.json.Decoder(ModelEpoch)


def encode_epoch(epoch: ModelEpoch) -> bytes:
    """Encode as JSON."""
    return msgspec.json.encode(epoch)


def decode_epoch(value: bytes) -> ModelEpoch:
    """Decode one.

    Raises:
        msgspec.DecodeError: it is none; ValidationError is one.
    """
    return _DECODER.decode(value)
