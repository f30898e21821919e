"""Records as an attacker, or a broken producer, would make them; and what has to hold for each."""

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from detector.contract.control import decode_control
from detector.contract.dead_letters import DeadLetter, Reason, dead_letter_headers
from detector.contract.events import END_MS, FIRST_MS, MAX_ID_CHARS, SessionEvent, decode_event, encode_event
from detector.contract.listings import AccountListing
from detector.contract.verdicts import Verdict, encode_verdict
from detector.formats.wire import AS_IT_COMES
from detector.runtime.decoding import MAX_DETAIL_CHARS, EventLimits, decode

KNOWN = frozenset({"LOGIN", "VIEW_BALANCE", "TRANSFER_LARGE", "LOGOUT"})
LIMITS = EventLimits(max_event_bytes=512, max_dead_letter_bytes=1_024, max_future_ms=300_000)
NOW_MS = 1_790_000_000_000

_TOKENS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b",",
        b"\\",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"\x00\x00\x00\x00\x07{", b'"data":{', b'{"schema":0,"payload":', b'{"op":"c","source":0,"after":'),
    *(b"null", b"true", b"1e999", b"-0", b"-1", b"NaN", b"9223372036854775808", b"1.5", b"1" * 400),
    *(
        b'"\\ud800"',
        b'"\\u0000"',
        b'"session_id":',
        b'"account_id":"a",',
        b'"schema_version":',
        b'"kind":',
        b"[" * 900,
    ),
]
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=200),
)
_ACTIONS = st.sampled_from([*sorted(KNOWN), "TRANSFER", "login", "LOGIN ", "\x00"])
_VALUES = _ACTIONS | st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True, slots=True)
class FuzzedRecord:
    """What of a ConsumerRecord the decoder looks at."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int
    topic: str = "session-actions"
    partition: int = 0
    offset: int = 7


@st.composite
def _documents(draw: st.DrawFn) -> bytes:
    """Draw an event or a listing, with any of its fields of another type, missing or doubled."""
    document: dict[str, Any] = dict(
        draw(
            st.sampled_from(
                [
                    {
                        "event_id": "e",
                        "session_id": "s",
                        "account_id": "a",
                        "action": "LOGIN",
                        "occurred_at_ms": NOW_MS,
                    },
                    {"kind": "account_listing", "account_id": "a", "listing": "DENY"},
                    {
                        "kind": "session_verdict",
                        "verdict_id": "v",
                        "account_id": "a",
                        "session_id": "s",
                        "verdict": "FRAUD",
                        "by": "x",
                        "decided_at_ms": NOW_MS,
                    },
                ]
            )
        )
    )
    if "action" in document:
        document["action"] = draw(_ACTIONS)
    for name in draw(st.lists(st.sampled_from([*document, "attributes", "schema_version"]), max_size=3)):
        if draw(st.booleans()):
            document.pop(name, None)
        else:
            document[name] = draw(_VALUES)
    return msgspec.json.encode(document)


@st.composite
def _spoiled(draw: st.DrawFn) -> bytes:
    """Draw a document with bytes of it replaced, inserted, repeated or cut away."""
    data = bytearray(draw(_documents()))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["insert", "replace", "cut", "repeat", "flip"])):
            case "insert":
                data[at:at] = draw(st.sampled_from(_TOKENS))
            case "replace":
                data[at : at + draw(st.integers(0, 8))] = draw(
                    st.sampled_from(_TOKENS) | st.binary(max_size=8)
                )
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = bytes(data[at : at + 64]) * draw(st.integers(1, 40))
            case _:
                if at < len(data):
                    data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


RECORDS = st.builds(
    FuzzedRecord,
    value=st.none()
    | st.binary(max_size=300)
    | st.integers(500, 1_100).map(bytes)
    | _documents()
    | _spoiled(),
    key=st.none() | st.binary(max_size=40) | st.integers(500, 600).map(bytes),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["dlq-history", "dlq-redrives", "dlq-reason", "ce_id", ""])
            | st.text(max_size=12),
            st.none()
            | st.binary(max_size=60)
            | st.sampled_from([b"-1", b"1" * 30, b'[{"reason":1}]', b"[]"]),
        ),
        max_size=4,
    ),
    timestamp=st.sampled_from([-1, 0, NOW_MS, 2**62]),
)


def outcome(record: FuzzedRecord) -> str:
    """Decode a record, check all that has to hold, and return what became of it.

    Raises:
        AssertionError: something does not hold. Any other exception is a failure, too: it would end the service.
    """
    decoded = decode(record, KNOWN.__contains__, LIMITS, event_of=AS_IT_COMES.event_of(decode_event))
    if isinstance(decoded, SessionEvent):
        assert decode_event(encode_event(decoded)) == decoded, "an accepted event is written as it was read"
        assert decoded.action in KNOWN
        assert FIRST_MS <= decoded.occurred_at_ms < END_MS
        assert 0 < len(decoded.session_id) <= MAX_ID_CHARS
        assert 0 < len(decoded.account_id) <= MAX_ID_CHARS
        decoded.session_id.encode()
        return "event"
    if isinstance(decoded, AccountListing):
        decoded.account_id.encode()
        return "listing"
    if isinstance(decoded, Verdict):
        assert decode_control(encode_verdict(decoded)) == decoded
        assert record.timestamp < 0 or decoded.decided_at_ms - record.timestamp <= LIMITS.max_future_ms
        return "verdict"
    assert isinstance(decoded, DeadLetter)
    assert decoded.value == (None if record.value is None else record.value[: LIMITS.max_dead_letter_bytes])
    assert decoded.key == (None if record.key is None else record.key[: LIMITS.max_event_bytes])
    assert decoded.is_cut == (decoded.key != record.key or decoded.value != record.value)
    assert 0 < len(decoded.detail) <= MAX_DETAIL_CHARS
    for name, text in dead_letter_headers(decoded):
        name.encode()
        assert isinstance(text, bytes)
    assert decoded.reason in Reason
    return decoded.reason.value
