"""Listed accounts: always allowed, or blocked at once. A listing is a record of the input topic, beside the events.

It lies in every partition, so that each partition's log alone says from which event on an account is listed. The
accounts topic, compacted and keyed by account, keeps what holds at present, for people and for new partitions.
"""

from enum import StrEnum

import msgspec

from detector.contract.events import Identifier

KIND = "account_listing"


class Listing(StrEnum):
    """What is done with a listed account's sessions, whatever they score."""

    ALLOW = "ALLOW"
    DENY = "DENY"


class AccountListing(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=KIND, gc=False):
    """From here on in its partition, sessions of an account are allowed, blocked, or judged by score again (null).

    The account's id has at most 512 bytes of UTF-8, as in an event.
    """

    account_id: Identifier
    listing: Listing | None


_DECODER = msgspec.json.Decoder(AccountListing)
_ENCODER = msgspec.json.Encoder()


def decode_listing(value: bytes) -> AccountListing:
    """Decode a record of the accounts topic.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _DECODER.decode(value)


def encode_listing(listing: AccountListing) -> bytes:
    """Encode one listing as JSON (UTF-8)."""
    return _ENCODER.encode(listing)
