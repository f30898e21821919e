"""What bounds the life and number of sessions, and what their events say of time."""

from dataclasses import dataclass

from detector.core.clocks import Clock, Told, bounded, by_broker, by_event


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What bounds the life and number of sessions.

    Attributes:
        idle_timeout_ms: a session with no action for longer, by stream time, has expired.
        max_sessions: most sessions kept for one partition; beyond it the longest idle is evicted.
        max_step_ms: how far one event may move stream time, where its time is nobody's but its producer's; and be ahead of
            the broker's, where its own decides.
        clock: whose time decides, where the broker's is known.
        tolerance_ms: how far from it an event's own may be, and by how much what came out of order may lengthen a session.
        max_listed_bytes: most listed accounts of one partition, some 120,000 whose ids are UUIDs; one more is refused.
        max_expired: most sessions that a batch drops for being expired, or more than there is room for since a setting
            changed. After a quiet night all have, and one transaction would not carry their ids. Those that are left are
            as good as gone, and go with later batches. As many accounts.
        max_accounts: most profiles of accounts kept for one partition, if the model has signals; the longest unseen goes.
        account_timeout_ms: an account without an event for longer, by stream time, is met as a new one.
        over_after_ms: a session without an action for longer teaches its account; 0 is once it has expired.
        max_alerted: most sessions with alerts that are remembered for one partition; the one longest not told of goes.
        alert_memory_ms: for so long, by stream time, since an alert or a verdict was the last to tell of it.
        fraud_listing_ms: a verdict of fraud denies the account for so long, by stream time; 0 does not.
        cleared_listing_ms: a verdict of lawful allows it, likewise.
    """

    idle_timeout_ms: int = 30 * 60 * 1000
    max_sessions: int = 1_000_000
    max_step_ms: int = 5 * 60 * 1000
    max_listed_bytes: int = 16 * 1024 * 1024
    max_expired: int = 10_000
    max_accounts: int = 1_000_000
    account_timeout_ms: int = 180 * 24 * 60 * 60 * 1000
    over_after_ms: int = 0
    max_alerted: int = 200_000
    alert_memory_ms: int = 7 * 24 * 60 * 60 * 1000
    fraud_listing_ms: int = 0
    cleared_listing_ms: int = 0
    clock: Clock = Clock.EVENT
    tolerance_ms: int = 30_000

    def time_of(self, claimed_ms: int, broker_ms: int, stream_time_ms: int, heard_at_ms: int) -> Told:
        """Return what time it is by an event and its record, 0 if nobody vouches for that; see `detector.core.clocks`."""
        if not broker_ms:
            return Told(claimed_ms, max(stream_time_ms, claimed_ms))
        if self.clock is Clock.BOUNDED:
            return bounded(claimed_ms, broker_ms, stream_time_ms, heard_at_ms, self.tolerance_ms)
        if self.clock is Clock.BROKER:
            return by_broker(claimed_ms, broker_ms, stream_time_ms, self.tolerance_ms)
        return by_event(claimed_ms, broker_ms, stream_time_ms, self.max_step_ms)
