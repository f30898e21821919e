"""The packed state of one live session: what the next action needs to know of the ones before."""

import hashlib
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("<qqIHB")
_FLAGS_AT = _HEAD.size - 1
_ENDED = 2
BLOCKED, REVIEWED, REACHED = 1, 4, 8
"""Marks of a session: a BLOCK was published, a REVIEW was, its score has reached the blocking threshold."""
_MARKS = BLOCKED | REVIEWED | REACHED
EVENT_HASH_BYTES = 8


class Session(NamedTuple):
    """One session, unpacked. Packed it is plain bytes: 23 and 3 a step and 8 an event id, not Python objects.

    Attributes:
        last_ms: event time of its last action.
        touched_ms: stream time of its partition when the last action was read; never runs backwards in the log.
        actions: how many actions it had so far.
        marks: BLOCKED, REVIEWED and REACHED, or none of them.
        ended: it logged out. Kept until it expires, so that a repeated event is still known as one.
        steps: packed steps of its last actions, at most a window.
        event_hashes: hashes of its last event ids, EVENT_HASH_BYTES each, at most as many as a window has steps.
    """

    last_ms: int
    touched_ms: int
    actions: int
    marks: int
    ended: bool
    steps: bytes
    event_hashes: bytes


def event_hash(event_id: str) -> bytes:
    """Hash an event id for the duplicate check.

    64 bits of BLAKE2b (RFC 7693): among the ids of one window a false duplicate has odds of about 1 in 10^18,
    and an id cannot be chosen to collide cheaply.
    """
    return hashlib.blake2b(event_id.encode(), digest_size=EVENT_HASH_BYTES).digest()


def holds(event_hashes: bytes, wanted: bytes) -> bool:
    """Tell whether `wanted` is one of the packed hashes; a match across two neighbours is none."""
    at = event_hashes.find(wanted)
    while at >= 0:
        if at % EVENT_HASH_BYTES == 0:
            return True
        at = event_hashes.find(wanted, at + 1)
    return False


def pack(session: Session) -> bytes:
    """Pack a session for the table and the state log."""
    flags = session.marks | session.ended * _ENDED
    head = _HEAD.pack(session.last_ms, session.touched_ms, session.actions, len(session.steps), flags)
    return head + session.steps + session.event_hashes


def unpack(packed: bytes) -> Session:
    """Unpack what `pack` packed."""
    last_ms, touched_ms, actions, steps_bytes, flags = _HEAD.unpack_from(packed)
    steps_end = _HEAD.size + steps_bytes
    return Session(
        last_ms,
        touched_ms,
        actions,
        flags & _MARKS,
        bool(flags & _ENDED),
        packed[_HEAD.size : steps_end],
        packed[steps_end:],
    )


def touched_ms(packed: bytes) -> int:
    """Read the stream time of the last touch without unpacking the rest."""
    return int.from_bytes(packed[8:16], "little", signed=True)


def marks(packed: bytes) -> int:
    """Read the marks without unpacking the rest."""
    return packed[_FLAGS_AT] & _MARKS


def with_marks(packed: bytes, marks: int) -> bytes:
    """Return the packed session with these marks, and those that it has."""
    return packed[:_FLAGS_AT] + bytes([packed[_FLAGS_AT] | marks]) + packed[_FLAGS_AT + 1 :]
