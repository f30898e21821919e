"""Listed accounts: always allowed, or blocked at once. A listing is a record of the input topic, beside the events.

It lies in every partition, so that each partition's log alone says from which event on an account is listed. The
accounts topic, compacted and keyed by account, keeps what holds at present, for people and for new partitions.
"""

from enum import StrEnum

import msgspec

from detector.contract.events import Identifier, excess

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


class MalformedListingError(ValueError):
    """The bytes are not a valid listing. The message says what was seen and what was expected."""


_DECODER = msgspec.json.Decoder(AccountListing)
_ENCODER = msgspec.json.Encoder()
_MARK = f'"{KIND}"'.encode()


def is_listing(value: bytes) -> bool:
    """Tell whether bytes that are no event are meant as a listing."""
    return _MARK in value


def decode_listing(value: bytes) -> AccountListing:
    """Decode and validate one listing.

    Raises:
        MalformedListingError: not JSON, a field missing, of the wrong type or out of bounds.
    """
    try:
        listing = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedListingError(str(error)) from error
    if told := excess(listing.account_id):
        raise MalformedListingError(f"{told} - at `$.account_id`")
    return listing


def encode_listing(listing: AccountListing) -> bytes:
    """Encode one listing as JSON (UTF-8)."""
    return _ENCODER.encode(listing)
