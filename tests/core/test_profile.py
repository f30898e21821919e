"""A profile tells what its signals mean, however it keeps and finds it, and wherever it is packed."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.fields import Value
from detector.core.plan import largest_bytes
from detector.core.profile import OVER_AFTER_S, Profile, tag_of
from detector.core.signals import FIRST, Kind, Signal, Signals
from tests.core.plain_profile import PlainProfile
from tests.core.strategies import SIGNALS

AROUND = (
    Signal(name="phones", kind=Kind.COUNT, of="attributes.device", values=("phone", "true"), bounds=(-1, 0, 0.5, 1.5, 3), half_life_ms=7_000),
    Signal(name="since a phone", kind=Kind.SINCE, of="attributes.device", values=("phone",), bounds=(-5, 0, 1, 999, 1_000, 90_000.5)),
    Signal(name="sessions", kind=Kind.COUNT, of="session_begin", bounds=(0.1, 1, 2, 4), half_life_ms=3_600_000),
    Signal(name="gap", kind=Kind.MAGNITUDE, of="gap_ms", bounds=(1, 100_000)),
    Signal(name="action", kind=Kind.NOVELTY, of="action", bounds=(1, 100_000), most=3),
)  # fmt: skip
"""More of the kinds that time and counting move, with bounds where rounding could."""
EVERYTHING = Signals((*SIGNALS, *AROUND))
OF_FIELDS = Signals(
    [one for one in (*SIGNALS, *AROUND) if one.name not in {"pace", "account", "gap", "action", "events"}]
)
"""Those of which an event like the one before is told the same: most codes stand."""
PACES_MS = (
    (0, 1, 999, 1_000, 5_000),
    (0, 1_000, 30_000, 61_000, 700_000),
    (0, 1_000, 2_000_000, 90_000_000, -4_000_000),
)
"""Steps of the clock: of somebody in a hurry, of most, and of whoever comes by on some days, with a clock set back."""
ACTIONS = ("LOGIN", "VIEW_BALANCE", "VIEW_BALANCE", "VIEW_BALANCE", "CHANGE_PASSWORD", "TRANSFER_LARGE")
CHANNELS = (None, "web", "web", "web", "atm", 7.0)
AMOUNTS = (None, None, None, None, 0.0, 12.5, 5_000.0, -3.0, "900.00", "much")
DEVICES = (None, "phone", "phone", "phone", "phone", "laptop", "other", "true")
Heard = tuple[int, str, str, bool, tuple[Value, ...], bool, bool, bool, bool | None, bool]


def heard(seed: int) -> Iterator[Heard]:
    """Draw an account's life: step, session, action, whether it begins, fields, ends, blocked, blocks, doubted or not, packs.

    Drawn by chances, for codes that stand are of long stretches in which little changes.
    """
    rng = random.Random(seed)
    sessions = "abcde"[: rng.choice([1, 1, 2, 5])]
    fields: tuple[Value, ...] = (None, None, None)
    pace_ms, packs = rng.choice(PACES_MS), rng.choice([0, 0.1])
    for _ in range(rng.randint(1, 120)):
        if rng.random() < 0.4:
            fields = rng.choice(CHANNELS), rng.choice(AMOUNTS), rng.choice(DEVICES)
        if rng.random() < 0.05:
            pace_ms = rng.choice(PACES_MS)
        session = rng.choice(sessions) if rng.random() < 0.3 else "a"
        action = rng.choice(ACTIONS) if rng.random() < 0.5 else "VIEW_BALANCE"
        often = (0.1, 0.05, 0.02, 0.03, packs)
        begins, ends, is_blocked, blocks, packed = (rng.random() < one for one in often)
        doubted = rng.choice([True, False]) if rng.random() < 0.1 else None
        yield rng.choice(pace_ms), session, action, begins, fields, ends, is_blocked, blocks, doubted, packed


@settings(max_examples=400)
@given(
    st.integers(0, 2**32),
    st.sampled_from([EVERYTHING, OF_FIELDS]),
    st.integers(0, 2**32) | st.integers(1_700_000_000_000, 1_800_000_000_000),
)
def test_codes_are_what_the_signals_mean(seed: int, signals: Signals, begin_ms: int) -> None:
    """Whatever an account does, each code is that of the plain reading, whether the profile was packed meanwhile or not."""
    plain, profile = PlainProfile(signals), Profile(signals)
    last_ms: dict[str, int] = {}
    now_ms = begin_ms
    for step_ms, session, action, begins, fields, ends, is_blocked, blocks, doubted, packs in heard(seed):
        now_ms = max(0, now_ms + step_ms)
        before_ms = last_ms.get(session)
        at_ms = last_ms[session] = max(now_ms, before_ms or 0)
        gap_ms = None if before_ms is None or begins else at_ms - before_ms
        seen = tag_of(session), "account", action, at_ms, gap_ms, fields, ends, is_blocked
        assert profile.observe(*seen) == plain.observe(*seen)
        if blocks:
            profile.block(tag_of(session))
            plain.block(tag_of(session))
        if doubted is not None:
            profile.doubt(tag_of(session), is_doubted=doubted)
            plain.doubt(tag_of(session), is_doubted=doubted)
        if packs:
            packed = profile.packed()
            assert len(packed) <= largest_bytes(signals)
            profile = Profile(signals, packed)
            assert profile.packed() == packed


@pytest.mark.parametrize(("over_after_s", "is_new"), [(OVER_AFTER_S, False), (12 * 3_600, True)])
def test_a_pause_teaches_nothing_while_the_session_lives(over_after_s: int, *, is_new: bool) -> None:
    """A device stays new in its own session over a pause, though the account does something else meanwhile."""
    signals = Signals(
        [Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(86_400_000.0,))]
    )
    profile, begin_ms = Profile(signals, over_after_s=over_after_s), 1_790_000_000_000
    for number in range(3):
        at_ms = begin_ms + number * 86_400_000
        profile.observe(tag_of(f"own {number}"), "a", "LOGIN", at_ms, None, ("phone",), ends=True)
    at_ms = begin_ms + 5 * 86_400_000
    assert profile.observe(tag_of("theirs"), "a", "LOGIN", at_ms, None, ("laptop",)) == bytes([FIRST])
    at_ms += 31 * 60_000
    profile.observe(tag_of("own"), "a", "LOGIN", at_ms, None, ("phone",))
    (code,) = profile.observe(tag_of("theirs"), "a", "TRANSFER_LARGE", at_ms + 1_000, 1_861_000, ("laptop",))
    assert (code == FIRST) is is_new
