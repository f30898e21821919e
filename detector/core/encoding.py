"""Encoding of a session's last actions as the fixed-width window that the model reads."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.actions import ENDS_SESSION
from detector.core.plan import largest_bytes
from detector.core.session import MAX_STEPS_BYTES
from detector.core.signals import Signal, Signals

STEP_DTYPE = np.dtype([("action", "<u2"), ("gap", "u1")])
"""A step without signals."""
STEP_BYTES = STEP_DTYPE.itemsize
ACTION_BYTES = 2
"""Of a step, before the signals'."""
MAX_ACTIONS = 65_534
MAX_WINDOW = 4_096
MAX_GAP_BOUNDS = 253
MAX_PROFILE_BYTES = 1_024
"""Of an account, at most; what is typical takes a fifth."""


UNKNOWN_ACTION = "<unknown>"
"""How an action is named that the model does not know, once it is a step."""


class EncodingError(ValueError):
    """There is no such encoding: a vocabulary, window, bounds or signals break a limit."""


class UnknownActionError(ValueError):
    """The action is not in the model's vocabulary."""


class Encoding:
    """How actions, signals and the gaps between actions become steps, and steps a window.

    A step is packed: the action's code (2 bytes), a byte for each signal, and the bucket of the gap before it, which is
    0 on padding alone. Codes count from 1 in the vocabulary's order. Bucket 1 is a session's
    first action, bucket 2 + i a gap of at least `gap_bounds_ms[i - 1]` and below `gap_bounds_ms[i]`; without
    bounds the model uses no time and every step has bucket 1.

    Args:
        vocabulary: the actions, in code order.
        window: how many of the last actions the model reads.
        gap_bounds_ms: ascending lower bounds of the gap buckets, in milliseconds.
        unknown_token: give every action beyond the vocabulary the one code after its last, instead of refusing it.
        ends_session: the actions that end a session: the next one begins a new one.
        signals: what the model reads beside action and gap.

    Attributes:
        step_dtype: of a step, with the fields `action`, `signals` (where there are any) and `gap`.

    Raises:
        EncodingError: the vocabulary, window, bounds or signals break a limit.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        window: int,
        gap_bounds_ms: Sequence[int] = (),
        *,
        unknown_token: bool = False,
        ends_session: Iterable[str] = ENDS_SESSION,
        signals: Sequence[Signal] = (),
    ) -> None:
        if not 1 <= len(vocabulary) <= MAX_ACTIONS or len(set(vocabulary)) != len(vocabulary):
            raise EncodingError(
                f"vocabulary of {len(vocabulary)} actions: expected 1 to {MAX_ACTIONS} distinct ones"
            )
        if not 1 <= window <= MAX_WINDOW:
            raise EncodingError(f"window of {window} actions: expected 1 to {MAX_WINDOW}")
        if len(gap_bounds_ms) > MAX_GAP_BOUNDS or list(gap_bounds_ms) != sorted(set(gap_bounds_ms)):
            raise EncodingError(
                f"gap bounds {list(gap_bounds_ms)}: expected up to {MAX_GAP_BOUNDS}, ascending"
            )
        self.vocabulary = tuple(vocabulary)
        self.window = window
        self.gap_bounds_ms = tuple(gap_bounds_ms)
        self.unknown_token = unknown_token
        self.ends_session = frozenset(ends_session)
        self.signals = Signals(signals)
        if (size := largest_bytes(self.signals)) > MAX_PROFILE_BYTES:
            raise EncodingError(
                f"signals whose profile of an account takes up to {size} bytes: expected at most {MAX_PROFILE_BYTES}; "
                "let those of novelty know fewer values (most)"
            )
        of_signals = [("signals", "u1", (len(signals),))] if signals else []
        self.step_dtype = np.dtype([("action", "<u2"), *of_signals, ("gap", "u1")])
        self.step_bytes = self.step_dtype.itemsize
        self.window_bytes = window * self.step_bytes
        if self.window_bytes > MAX_STEPS_BYTES:
            raise EncodingError(
                f"window of {window} actions of {self.step_bytes} bytes each: expected at most {MAX_STEPS_BYTES:,} bytes; "
                "read fewer actions or signals"
            )
        self._codes: Mapping[str, bytes] = {
            action: code.to_bytes(2, "little") for code, action in enumerate(vocabulary, start=1)
        }
        self._unknown = (len(vocabulary) + 1).to_bytes(2, "little") if unknown_token else None
        buckets = len(gap_bounds_ms) + 3
        self._buckets = [bytes([bucket]) for bucket in range(buckets)]
        self._gap_ranges_ms: list[tuple[int, int | None] | None] = [
            *(None, None),  # the padding's bucket and the first action's
            *zip((0, *gap_bounds_ms), (*gap_bounds_ms, None), strict=True),
        ]

    @property
    def gap_buckets(self) -> int:
        """How many gap buckets there are, the padding's 0 and the first action's 1 included."""
        return len(self._buckets) if self.gap_bounds_ms else 2

    @property
    def fingerprint(self) -> bytes:
        """Eight bytes that differ between encodings whose steps can't be read by each other's models."""
        # Nothing of what is as it was before it could be otherwise: state of older versions stays readable.
        unknown = [True] if self.unknown_token else []
        ends = sorted(filter(self.knows, self.ends_session))
        others: list[object] = (
            [{"ends_session": ends}] if ends != [one for one in ENDS_SESSION if self.knows(one)] else []
        )
        others += [{"signals": self.signals.declared}] if self.signals else []
        layout = msgspec.json.encode([self.vocabulary, self.window, self.gap_bounds_ms, *unknown, *others])
        return hashlib.blake2b(layout, digest_size=8).digest()

    def knows(self, action: str) -> bool:
        """Tell whether `action` can be encoded: it is in the vocabulary, or there is a token for those that aren't."""
        return self.unknown_token or action in self._codes

    def names(self, action: str) -> bool:
        """Tell whether `action` is in the vocabulary."""
        return action in self._codes

    def step(self, action: str, gap_ms: int | None, signals: bytes | None = None) -> bytes:
        """Encode one action.

        Args:
            action: a name in the vocabulary, or any with an unknown token.
            gap_ms: time since the session's previous action; None for its first.
            signals: one byte each; those of an event of which nothing is known if None.

        Returns:
            an element of `step_dtype`.

        Raises:
            UnknownActionError: the action is not in the vocabulary, and there is no unknown token.
        """
        code = self._codes.get(action, self._unknown)
        if code is None:
            raise UnknownActionError(
                f"action {action[:64]!r} is not in the model's vocabulary of {len(self.vocabulary)} actions"
            )
        if signals is None:
            signals = self.signals.unread
        if gap_ms is None or not self.gap_bounds_ms:
            return code + signals + self._buckets[1]
        return code + signals + self._buckets[2 + bisect_right(self.gap_bounds_ms, gap_ms)]

    def steps(
        self,
        actions: Sequence[str],
        times_ms: Sequence[int] | None = None,
        signals: Sequence[bytes] | None = None,
    ) -> bytes:
        """Encode a whole session, for scoring by hand; not cut to the window.

        Times that run backwards count as a gap of 0, as they do when serving. Without times every gap is 0; without
        signals nothing but the actions is known.
        """
        encoded = []
        last_ms: int | None = None
        for index, action in enumerate(actions):
            now_ms = 0 if times_ms is None else times_ms[index]
            now_ms = now_ms if last_ms is None else max(now_ms, last_ms)
            of_event = None if signals is None else signals[index]
            encoded.append(self.step(action, None if last_ms is None else now_ms - last_ms, of_event))
            last_ms = now_ms
        return b"".join(encoded)

    def actions(self, steps: bytes) -> list[str]:
        """Name the actions of packed, unpadded steps; those beyond the vocabulary UNKNOWN_ACTION."""
        codes = np.frombuffer(steps, self.step_dtype)["action"]
        names = (*self.vocabulary, UNKNOWN_ACTION)
        return [names[code - 1] for code in codes.tolist()]

    def gap_ranges_ms(self, steps: bytes) -> list[tuple[int, int | None] | None]:
        """Return for packed, unpadded steps in which range each gap lies: from, and below, without an end None.

        None for a session's first action, and without bounds. `step` makes of a range's beginning the same bucket.
        """
        return [self._gap_ranges_ms[bucket] for bucket in steps[self.step_bytes - 1 :: self.step_bytes]]

    def signals_of(self, steps: bytes) -> list[list[int]]:
        """Return the codes of the signals of packed, unpadded steps."""
        width = self.step_bytes
        return [list(steps[at + 2 : at + width - 1]) for at in range(0, len(steps), width)]

    def windows(self, steps: Sequence[bytes]) -> NDArray[np.void]:
        """Stack packed steps into windows: the last `window` steps of each, padded with zeros at the end.

        Returns:
            shape (len(steps), window), dtype `step_dtype`; read-only.
        """
        size = self.window_bytes
        packed = b"".join([one[-size:].ljust(size, b"\0") for one in steps])
        return np.frombuffer(packed, self.step_dtype).reshape(len(steps), self.window)
