"""Control records: what lies in the input topic beside the events, in every partition. Each names its `kind`."""

from typing import Final

import msgspec

from detector.contract import listings, verdicts
from detector.contract.events import excess
from detector.contract.listings import AccountListing
from detector.contract.verdicts import Verdict

Control = AccountListing | Verdict
_NAMES: Final = {listings.KIND: "account listing", verdicts.KIND: "session verdict"}
_DECODER = msgspec.json.Decoder(Control)


class MalformedControlError(ValueError):
    """The bytes are not a valid control record. The message says what was seen and what was expected."""


def is_control(value: bytes) -> bool:
    """Tell whether bytes that are no event are meant as a control record."""
    return _name(value) is not None


def decode_control(value: bytes) -> Control:
    """Decode and validate one control record.

    Raises:
        MalformedControlError: not JSON, a field missing, of the wrong type or out of bounds.
    """
    try:
        control: Control = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedControlError(f"{_name(value)}: {error}") from error
    if told := excess(control, *(verdicts.IDS if isinstance(control, Verdict) else ("account_id",))):
        raise MalformedControlError(f"{_name(value)}: {told}")
    return control


def _name(value: bytes) -> str | None:
    return next((name for kind, name in _NAMES.items() if f'"{kind}"'.encode() in value), None)
