"""JSON as it is sometimes written: what can't be read in it counts as absent, and hides nothing else.

Serialisers write what RFC 8259 forbids or advises against: half a surrogate pair, a byte of another encoding, NaN, a
byte-order mark, a control character. Whoever fills a field of an event must not decide by that whether it is scored.
"""

import json
from typing import Any

import msgspec

_EXACT_DIGITS = 18
"""Of a whole number that 64 bits hold; Python takes long for very long ones."""


def relaxed(value: bytes) -> bytes:
    """Return the bytes themselves if they are JSON; else JSON that says the same, with null for what can't be read.

    Raises:
        ValueError: even so it is none.
        RecursionError: it is nested too deep.
    """
    try:
        value.decode()  # it is not looked at in what msgspec passes over
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError):
        # What is no UTF-8 becomes half surrogate pairs, as those that are written so.
        text = value.decode("utf-8-sig", "surrogateescape")
        read = json.loads(text, strict=False, parse_int=_number, parse_constant=lambda _: None)
        return written(read)
    return value


def written(read: Any) -> bytes:
    """Return what was read as JSON; texts that are none count as absent."""
    try:
        return msgspec.json.encode(read)
    except UnicodeEncodeError:
        return msgspec.json.encode(_readable(read))


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value if _is_text(value) else None
    if isinstance(value, dict):
        return {name: _readable(one) for name, one in value.items() if _is_text(name)}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
