"""The commands `python -m detector accounts …`: accounts that are always allowed, or blocked at once."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec
from kafka.errors import KafkaError

from detector.contract.events import MAX_ID_CHARS, excess
from detector.contract.listings import AccountListing, Listing
from detector.options import config_of, settings
from detector.runtime.listing import ListedAccounts
from detector.runtime.recovery import TRANSACTION_FAILURES, TopicsUnfitError


@click.group()
def accounts() -> None:
    """List accounts to be allowed or blocked whatever they score.

    A listing travels through the input topic, into each of its partitions, and holds for the events behind it.
    """


_where = settings("bootstrap_servers", "input_topic", "create_topics", "replication_factor")


@accounts.command()
@_where
@click.argument("account_ids", metavar="ACCOUNT...", nargs=-1, required=True)
def allow(*, account_ids: tuple[str, ...], **where: Any) -> None:
    """Publish no alerts on these accounts, whatever they score."""
    _publish(where, account_ids, Listing.ALLOW)


@accounts.command()
@_where
@click.argument("account_ids", metavar="ACCOUNT...", nargs=-1, required=True)
def deny(*, account_ids: tuple[str, ...], **where: Any) -> None:
    """Block each session of these accounts at its next action, whatever it scores."""
    _publish(where, account_ids, Listing.DENY)


@accounts.command()
@_where
@click.argument("account_ids", metavar="ACCOUNT...", nargs=-1, required=True)
def clear(*, account_ids: tuple[str, ...], **where: Any) -> None:
    """Judge these accounts by their scores again."""
    _publish(where, account_ids, None)


@accounts.command(name="list")
@_where
def list_(**where: Any) -> None:
    """Print the listed accounts as JSON lines.

    Those that verdicts list for a time (--fraud-listing-ms, --cleared-listing-ms) are not among them: what lists these is the
    verdicts in each partition. detector_listed_accounts counts both.
    """

    def show(lists: ListedAccounts) -> None:
        for account_id, listing in sorted(lists.listed().items()):
            click.echo(msgspec.json.encode({"account_id": account_id, "listing": listing}))

    _with_accounts(where, show, "Run it again")


@accounts.command()
@_where
def sync(**where: Any) -> None:
    """Publish all listings to every partition again: after partitions were added, or state was rebuilt."""

    def publish(lists: ListedAccounts) -> None:
        listed = lists.listed()
        to = lists.publish(AccountListing(account_id=one, listing=listed[one]) for one in sorted(listed))
        counts = Counter(listing.value.lower() for listing in listed.values())
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
        click.echo(f"{len(listed)} accounts to {to} partitions: {told}")

    _with_accounts(where, publish)


def _publish(where: dict[str, Any], account_ids: Iterable[str], listing: Listing | None) -> None:
    distinct = list(dict.fromkeys(account_ids))
    for one in distinct:
        if not 0 < len(one) <= MAX_ID_CHARS:
            raise click.UsageError(f"an account of {len(one)} characters: expected 1 to {MAX_ID_CHARS}")
        if told := excess(one):
            raise click.UsageError(f"an account: {told}")

    def publish(lists: ListedAccounts) -> None:
        to = lists.publish(AccountListing(account_id=one, listing=listing) for one in distinct)
        verb = "cleared" if listing is None else f"listed as {listing.value}"
        click.echo(f"{len(distinct)} accounts {verb}, in {to} partitions of the input")

    _with_accounts(where, publish)


def _with_accounts(
    where: dict[str, Any],
    work: Callable[[ListedAccounts], None],
    then: str = "What was published before holds; run it again for the rest",
) -> None:
    logging.getLogger("kafka").setLevel(logging.ERROR)
    config = config_of(where)
    try:
        work(ListedAccounts(config))
    except (*TRANSACTION_FAILURES, TopicsUnfitError, KafkaError) as error:
        raise click.ClickException(f"{type(error).__name__}: {error}. {then}") from error
