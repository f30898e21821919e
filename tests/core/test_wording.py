"""Words for the codes of signals: from the declaration alone, no two alike, and no more than the code says."""

from math import expm1, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.encoding import Encoding
from detector.core.parts import parts_of, without
from detector.core.profile import Profile, tag_of
from detector.core.signals import ABSENT, FIRST, UNKNOWN, Kind, Signal, Signals
from detector.core.wording import told
from tests.core.strategies import ACTIONS, SIGNALLED, SIGNALS
from trainer.data.declared import DEFAULT_SIGNALS

DAY_MS = 86_400_000
ALL_SIGNALS = [*SIGNALS, *DEFAULT_SIGNALS]
SIGNAL_NAMES = [one.name for one in ALL_SIGNALS]
AGES = (1.0 * DAY_MS, 7.0 * DAY_MS)


def one(kind: Kind, of: str, *bounds: float, name: str = "", values: tuple[str, ...] = ()) -> Signal:
    """Declare a signal."""
    half_life_ms = DAY_MS if kind is Kind.COUNT else 0
    return Signal(name=name or of, kind=kind, of=of, bounds=bounds, values=values, half_life_ms=half_life_ms)


CHANNEL = one(Kind.LEVEL, "attributes.channel", name="channel", values=("web", "app"))
AMOUNT = one(Kind.MAGNITUDE, "amount", 10, 22_000)
USUAL = one(Kind.DEVIATION, "amount", -2, -0.3, 0.3, 1, 6.5, 9)
DEVICE = one(Kind.NOVELTY, "attributes.device", *AGES)
OTHER = one(Kind.CHANGE, "attributes.payee.country")
ADDED = one(Kind.SINCE, "action", 60_000, 3_600_000, name="since a recipient was added")
FAILED = one(Kind.COUNT, "attributes.outcome", 0.1, 0.6, 1.3, 2.3, 4.3, name="failed logins in a day")
HOUR = one(Kind.HABIT, "occurred_at_ms", 0.02, 0.1, name="hour of the day")


@pytest.mark.parametrize(
    ("signal", "code", "words"),
    [
        (CHANNEL, FIRST, "channel web"),
        (CHANNEL, FIRST + 2, "other channel"),
        (CHANNEL, ABSENT, "no channel"),
        (AMOUNT, FIRST, "amount under 10"),
        (AMOUNT, FIRST + 1, "amount 10–22,000"),  # noqa: RUF001
        (AMOUNT, FIRST + 2, "amount 22,000 or more"),
        (USUAL, FIRST, "amount 2 or more deviations below the usual"),
        (USUAL, FIRST + 1, "amount 0.3–2 deviations below the usual"),  # noqa: RUF001
        (USUAL, FIRST + 2, "amount as usual"),
        (USUAL, FIRST + 3, "amount 0.3–1 deviations above the usual"),  # noqa: RUF001
        (USUAL, FIRST + 5, "amount 6.5–9 deviations above the usual, 5.1 times it or more"),  # noqa: RUF001
        (USUAL, FIRST + 6, "amount 9 or more deviations above the usual, 9.5 times it or more"),
        (USUAL, UNKNOWN, "no history of amount"),
        (
            one(Kind.DEVIATION, "amount", 1e9),
            FIRST + 1,
            ("amount 1e+09 or more deviations above the usual, 1e+304 times it or more"),
        ),
        (one(Kind.NOVELTY, "account_id", *AGES), UNKNOWN, "account without history"),
        (DEVICE, FIRST, "device never seen"),
        (DEVICE, FIRST + 1, "device known for under 1 d"),
        (DEVICE, FIRST + 2, "device known for 1–7 d"),  # noqa: RUF001
        (DEVICE, FIRST + 3, "device known for 7 d or more"),
        (one(Kind.NOVELTY, "account_id", *AGES), FIRST + 1, "account known for under 1 d"),
        (OTHER, FIRST, "same country as before in the session"),
        (OTHER, FIRST + 1, "other country than before in the session"),
        (OTHER, UNKNOWN, "first country in the session"),
        (ADDED, FIRST, "under 1 min since a recipient was added"),
        (ADDED, FIRST + 1, "1 min–1 h since a recipient was added"),  # noqa: RUF001
        (ADDED, UNKNOWN, "since a recipient was added: never"),
        (FAILED, FIRST, "failed logins in a day: none"),
        (FAILED, FIRST + 1, "failed logins in a day: under 1"),
        (FAILED, FIRST + 2, "failed logins in a day: 1"),
        (FAILED, FIRST + 4, "failed logins in a day: 3–4"),  # noqa: RUF001
        (FAILED, FIRST + 5, "failed logins in a day: 5 or more"),
        (HOUR, FIRST, "hour of the day of under 2 % of its sessions"),
        (HOUR, FIRST + 1, "hour of the day of 2–10 % of its sessions"),  # noqa: RUF001
    ],
)
def test_a_code_in_words(signal: Signal, code: int, words: str) -> None:
    """Kind, field and bounds make the words, with the name where the field does not say it."""
    assert told(signal, code) == words


@pytest.mark.parametrize("signal", ALL_SIGNALS, ids=SIGNAL_NAMES)
def test_no_two_codes_of_a_signal_read_alike(signal: Signal) -> None:
    """Whatever a model declares: each code that an event can have has words of its own, on one line."""
    words = [told(signal, code) for code in range(ABSENT, signal.codes)]
    assert len(set(words)) == len(words)
    assert all(one.isprintable() and ": +" not in one for one in words)


@given(
    st.lists(st.floats(1, 1e5), min_size=3, max_size=30),
    st.floats(1, 1e7),
)
def test_times_the_usual_are_no_more_than_it_is(amounts: list[float], amount: float) -> None:
    """What is told as so many times the usual is that at least: held against the mean of the earlier logarithms."""
    profile = Profile(Signals([USUAL]))
    for at, value in enumerate([*amounts, amount]):
        (code,) = profile.observe(tag_of(str(at)), "a", "PAY", DAY_MS * (1 + at), None, (value,))
    words = told(USUAL, code)
    weights = [0.98 ** (len(amounts) - at) for at in range(len(amounts))]
    mean = sum(weight * log1p(value) for weight, value in zip(weights, amounts, strict=True)) / sum(weights)
    if "times it" in words:
        times = float(words.split("usual, ")[1].split()[0])
        assert amount >= 0.98 * times * expm1(mean)  # two digits are told


@pytest.mark.parametrize("signal", ALL_SIGNALS, ids=SIGNAL_NAMES)
def test_what_is_usual_is_a_code_of_the_signal_and_usual_itself(signal: Signal) -> None:
    """What takes the place of a code can be an event's, and is as usual as anything."""
    for code in range(ABSENT, signal.codes):
        usual = signal.usual(code)
        assert ABSENT <= usual < signal.codes
        assert signal.usual(usual) == usual


@given(st.data())
def test_without_its_parts_a_step_is_as_usual(data: st.DataObject) -> None:
    """Any of the parts can be left out: the others stay, as do action and gap; without all of them there is none left."""
    codes = bytes(data.draw(st.integers(ABSENT, end - 1)) for end in SIGNALLED.signals.codes)
    step = SIGNALLED.step("LOGIN", 5, codes)
    parts = parts_of(step, SIGNALLED)
    some = data.draw(st.sets(st.sampled_from(range(len(parts)))) if parts else st.just(set()))
    left = without(step, [parts[at] for at in some])
    assert SIGNALLED.actions(left) == ["LOGIN"]
    assert left[-1] == step[-1]
    assert parts_of(left, SIGNALLED) == [part for at, part in enumerate(parts) if at not in some]
    assert parts_of(without(step, parts), SIGNALLED) == []


def test_a_part_is_what_signals_say_of_one_thing() -> None:
    """An amount is one part, whatever tells of it; what came before is another; no history is told once."""
    encoding = Encoding(ACTIONS, 4, signals=DEFAULT_SIGNALS)
    signals = {one.name: one.usual(FIRST) for one in DEFAULT_SIGNALS}
    signals |= {"amount": FIRST + 11, "amount against the usual": FIRST + 10, "recipient": FIRST}
    signals |= {"since a recipient was added": FIRST, "transfers in an hour": FIRST + 3}
    signals |= {"device": UNKNOWN, "network": UNKNOWN, "hour of the day": UNKNOWN}
    parts = parts_of(encoding.step("LOGIN", None, bytes(signals.values())), encoding)
    assert [part.words for part in parts] == [
        "amount 50,000 or more and amount 9 or more deviations above the usual, 9.5 times it or more",
        "no history of device, network, time",
        "recipient never seen",
        "under 1 min since a recipient was added",
        "transfers in an hour: 2",
    ]
