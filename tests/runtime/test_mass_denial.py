"""Accounts denied in a mass, on a real broker: the breaker lets their blocks through, and each carries its reasons."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from detector.contract.alerts import Cause, Decision
from detector.contract.events import SessionEvent, encode_event
from detector.contract.listings import AccountListing, Listing
from detector.runtime.listing import ListedAccounts
from tests.runtime.stack import Stack, exposed

NOW_MS = 1_790_000_000_000
ACCOUNTS = 5_000
ACTIONS = 15
KINDS = ["VIEW_BALANCE", "VIEW_TRANSACTIONS", "TRANSFER_SMALL", "TRANSFER_LARGE", "ADD_RECIPIENT"]


def events(begin: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Encode the actions from one number to another of every account's session, all sessions at once."""
    rng = np.random.RandomState(begin)
    for number in range(begin, end):
        drawn = rng.choice(KINDS, ACCOUNTS).tolist() if number else ["LOGIN"] * ACCOUNTS
        late_ms = rng.randint(20_000, size=ACCOUNTS).tolist()
        for account, (action, by_ms) in enumerate(zip(drawn, late_ms, strict=True)):
            event = SessionEvent(
                event_id=f"{account}-{number}",
                session_id=f"s{account}",
                account_id=f"account-{account}",
                action=action,
                occurred_at_ms=NOW_MS + number * 30_000 + by_ms,
            )
            yield event.session_id.encode(), encode_event(event)


def test_thousands_of_accounts_denied_at_once_are_blocked_with_reasons(
    make_stack: Callable[..., Stack],
) -> None:
    """One more event of each of 5,000 sessions, in one batch: 5,000 blocks with reasons, and no batch is tried again."""
    stack = make_stack(
        model="default", threshold=1.0, partitions=1, batch_max_events=ACCOUNTS, metrics_port=0
    )
    stack.publish(events(0, ACTIONS - 1))
    with stack.worker():
        stack.wait_until_processed()
    ListedAccounts(stack.config).publish(
        AccountListing(account_id=f"account-{number}", listing=Listing.DENY) for number in range(ACCOUNTS)
    )
    stack.publish(events(ACTIONS - 1, ACTIONS))
    with stack.worker() as worker:
        stack.wait_until_processed()
        assert sum(one.value for one in exposed(worker, "detector_recoveries_total")) == 0
        batches = {one.name: one.value for one in exposed(worker, "detector_batch_events_count")}
        assert batches == {"detector_batch_events_count": 2}  # the listings, and the events
    found = stack.alerts()
    assert Counter((alert.decision, alert.cause) for alert in found) == {
        (Decision.BLOCK, Cause.DENY_LIST): ACCOUNTS
    }
    assert len({alert.session_id for alert in found}) == ACCOUNTS
    for alert in found:
        assert len(alert.scores) == len(alert.gap_ranges_ms) == len(alert.window) == ACTIONS
        assert alert.scores[-1] == alert.score
        assert alert.explanation[0] == "the account is on the deny list"
