"""The packed state of one live session: what the next action needs to know of the ones before."""

import hashlib
from enum import Enum
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("<qqIHB")
HEAD_BYTES = _HEAD.size
MAX_STEPS_BYTES = 0xFFFF
"""Of a session's packed steps, whose size the head has."""
_FLAGS_AT = _HEAD.size - 1
_LATER_MARKS_AT = 19
_BYTE = 255
ENDED = 2
"""Flag of a session that logged out. Kept until it expires, so that a repeated event is still known as one."""
BLOCKED, REVIEWED, REACHED = 1, 4, 8
"""Marks of a session: a BLOCK was published, a REVIEW was, its score has reached the blocking threshold."""
CHALLENGED, CLEARED = 256, 512
"""Marks of a session: a CHALLENGE was published, and it was passed."""
SHADOWED, RULE_SHADOWED = 16, 1024
"""Marks of a session: a challenger in shadow would have blocked it, and what a rule in shadow would do was told."""
MARKS = BLOCKED | REVIEWED | REACHED | SHADOWED | CHALLENGED | CLEARED | RULE_SHADOWED
CARRIED, SHADOW_CARRIED = 32, 64
"""Flags of a session: behind its steps lies what its model carries over, and behind that what a challenger does."""
PROFILE = 128
"""Flag of what is no session but an account's profile, with a session's head: it lies in the same state log."""
_CARRIED = Struct("<8sd")
CARRIED_BYTES = _CARRIED.size
MODEL_BYTES = 8
"""Of a model's SHA-256, to know whose a carried value is: another model's is none."""
EVENT_HASH_BYTES = 8
MAX_ACTIONS = 2**28 - 1
"""So far a session's actions are counted: the marks that the flags' byte has no room for lie above them."""


class Trust(Enum):
    """What becomes of what a session teaches its account, from an event on."""

    BLOCKED = "blocked"  # it is forgotten, and so is what comes
    DOUBTED = "doubted"  # it is not taken over, unless the session is cleared
    CLEARED = "cleared"


def session_key(account_id: str, session_id: str) -> str:
    """Return what a session is kept under where accounts matter: the same id of two accounts is of two sessions."""
    return f"{len(account_id)} {account_id}{session_id}"


def profile_key(account_id: str) -> str:
    """Return what an account's profile is kept under: no session's key is like it."""
    return f"\0{account_id}"


def event_hash(event_id: str) -> bytes:
    """Hash an event id for the duplicate check.

    64 bits of BLAKE2b (RFC 7693): among the ids of one window a false duplicate has odds of about 1 in 10^18,
    and an id cannot be chosen to collide cheaply.
    """
    return hashlib.blake2b(event_id.encode(), digest_size=EVENT_HASH_BYTES).digest()


def pack(last_ms: int, touched_ms: int, actions: int, flags: int, steps: bytes, event_hashes: bytes) -> bytes:
    """Pack a session for the table and the state log: plain bytes, 23 and 3 a step and 8 an event id.

    A model with evidence adds 16 (`with_carried`).

    Args:
        last_ms: event time of its last action.
        touched_ms: stream time of its partition when the last action was read; never runs backwards in the log.
        actions: how many actions it had so far; beyond MAX_ACTIONS they are not counted.
        flags: its marks, and ENDED.
        steps: packed steps of its last actions, at most a window.
        event_hashes: hashes of its last event ids, EVENT_HASH_BYTES each, at most as many as a window has steps.
    """
    if flags > _BYTE or actions > MAX_ACTIONS:
        actions, flags = min(actions, MAX_ACTIONS) | flags >> 8 << 28, flags & _BYTE
    return _HEAD.pack(last_ms, touched_ms, actions, len(steps), flags) + steps + event_hashes


def head(packed: bytes) -> tuple[int, int, int, int, int, int]:
    """Unpack the head: `last_ms`, `touched_ms`, `actions`, where the steps end, where the hashes begin, `flags`.

    The steps begin at HEAD_BYTES. Between them and the hashes lies what is carried over, if anything is: as long as
    whole hashes, so that a detector that knows of none takes it for those of two old events and drops it in time.
    """
    last_ms, touched_ms, actions, steps_bytes, flags = _HEAD.unpack_from(packed)
    steps_end = hashes_at = HEAD_BYTES + steps_bytes
    if flags >= CARRIED:
        hashes_at += (flags & (CARRIED | SHADOW_CARRIED)).bit_count() * CARRIED_BYTES
    if actions > MAX_ACTIONS:
        flags |= actions >> 28 << 8
        actions &= MAX_ACTIONS
    return last_ms, touched_ms, actions, steps_end, hashes_at, flags


def carried(packed: bytes, flag: int, model: bytes) -> float:
    """Return what a model carries over in a session, 0 if it has nothing there.

    Args:
        packed: the session.
        flag: CARRIED, or SHADOW_CARRIED.
        model: the first MODEL_BYTES of its SHA-256.
    """
    flags = packed[_FLAGS_AT]
    if not flags & flag:
        return 0.0
    at = _steps_end(packed) + (CARRIED_BYTES if flag == SHADOW_CARRIED and flags & CARRIED else 0)
    whose, value = _CARRIED.unpack_from(packed, at)
    return value if whose == model else 0.0


def with_carried(packed: bytes, flag: int, model: bytes, value: float) -> bytes:
    """Return the packed session, which has no such value yet and nothing behind it, with what a model carries over."""
    flags = packed[_FLAGS_AT]
    at = _steps_end(packed) + (CARRIED_BYTES if flags & CARRIED else 0)
    flagged = packed[:_FLAGS_AT] + bytes((flags | flag,))
    return b"".join((flagged, packed[HEAD_BYTES:at], _CARRIED.pack(model, value), packed[at:]))


def _steps_end(packed: bytes) -> int:
    return HEAD_BYTES + (packed[_FLAGS_AT - 2] | packed[_FLAGS_AT - 1] << 8)


def holds(packed: bytes, hashes_at: int, wanted: bytes) -> bool:
    """Tell whether `wanted` is one of the event hashes from `hashes_at` on; a match across two neighbours is none."""
    at = packed.find(wanted, hashes_at)
    while at >= 0:
        if (at - hashes_at) % EVENT_HASH_BYTES == 0:
            return True
        at = packed.find(wanted, at + 1)
    return False


def touched_ms(packed: bytes) -> int:
    """Read the stream time of the last touch without unpacking the rest."""
    return int.from_bytes(packed[8:16], "little", signed=True)


def with_touched_ms(packed: bytes, touched_ms: int) -> bytes:
    """Return the packed session as last touched at this stream time."""
    return packed[:8] + touched_ms.to_bytes(8, "little", signed=True) + packed[16:]


def flags(packed: bytes) -> int:
    """Read the flags without unpacking the rest; not the marks CHALLENGED and CLEARED."""
    return packed[_FLAGS_AT]


def is_profile(packed: bytes) -> bool:
    """Tell whether what lies in the state log is an account's profile, and no session."""
    return packed[_FLAGS_AT] & PROFILE != 0


def with_marks(packed: bytes, marks: int) -> bytes:
    """Return the packed session with these marks, and those that it has."""
    marked = bytearray(packed)
    marked[_FLAGS_AT] |= marks & _BYTE
    marked[_LATER_MARKS_AT] |= marks >> 8 << 4
    return bytes(marked)


class Before(NamedTuple):
    """What an event goes on with in its session; `number` 0 begins it."""

    last_ms: int
    number: int
    marks: int
    steps: bytes
    hashes: bytes


NONE, EXPIRED = Before(-1, 0, 0, b"", b""), Before(-1, 0, 0, b"", b"")


def before_in(
    packed: bytes, hashed: bytes, occurred_at_ms: int, stream_time_ms: int, idle_ms: int
) -> Before | None:
    """Return what an event goes on with in its session; None if it is a duplicate."""
    last_ms, touched_at_ms, number, steps_end, hashes_at, marks = head(packed)
    # By its own clock as well, which need not be where stream time is.
    if stream_time_ms - touched_at_ms > idle_ms or (
        occurred_at_ms - touched_at_ms > idle_ms and occurred_at_ms - last_ms > idle_ms
    ):
        return EXPIRED
    if holds(packed, hashes_at, hashed):
        return None
    hashes = packed[hashes_at:]
    if marks & ENDED:
        return Before(-1, 0, 0, b"", hashes)
    return Before(last_ms, number, marks & MARKS, packed[HEAD_BYTES:steps_end], hashes)
