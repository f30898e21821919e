"""Windows to learn from: every prefix weighs what it should. That they are those of serving: test_serving.py."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.encoding import Encoding
from trainer.data.sessions import DataError, Session, Sessions
from trainer.data.windows import Examples, Packed, Weighing, check_known, every_window, examples, pack

IDLE_MS = 1_000
ENCODING_BOUNDS = [10, 100]


@st.composite
def sessions(draw: st.DrawFn) -> list[Session]:
    """Draw timed sessions, some longer idle than the timeout."""
    drawn = []
    for number in range(draw(st.integers(1, 5))):
        actions = tuple(draw(st.lists(st.sampled_from("ABC"), min_size=1, max_size=12)))
        gaps = draw(
            st.lists(st.sampled_from([0, 5, 50, 500, 5_000]), min_size=len(actions), max_size=len(actions))
        )
        label = draw(st.integers(0, 1))
        start = draw(st.integers(0, len(actions) - 1)) if label else None
        times = tuple(np.cumsum(gaps).tolist())
        drawn.append(
            Session(
                session_id=str(number), actions=actions, label=label, timestamps_ms=times, attack_from=start
            )
        )
    return drawn


def _weighed(packed: Packed, window: int, weighing: Weighing) -> dict[bytes, tuple[float, float]]:
    """Return, for each prefix's window, its weight as an attack and as lawful."""
    shown = examples(packed, window, weighing, 0)
    weights: dict[bytes, tuple[float, float]] = {}
    for row, place in zip(*np.nonzero(shown.weights), strict=True):
        prefix = shown.windows[row].copy()
        prefix[place + 1 :] = np.zeros((), prefix.dtype)
        attack, lawful = weights.get(prefix.tobytes(), (0.0, 0.0))
        weight = float(shown.weights[row, place])
        target = shown.targets[row, place]
        weights[prefix.tobytes()] = (attack + weight * target, lawful + weight * (1 - target))
    return weights


@settings(max_examples=80, deadline=None)
@given(drawn=sessions(), window=st.integers(1, 5))
def test_every_prefix_is_trained_on_once(drawn: list[Session], window: int) -> None:
    """Lawful prefixes weigh 1 each, those of attacks before the attacker's first action too; no other is shown."""
    encoding = Encoding("ABC", window, ENCODING_BOUNDS)
    packed = pack(Sessions.of(drawn), encoding, IDLE_MS)
    served = np.concatenate(list(every_window(packed, window)))
    lawful: dict[bytes, int] = {}
    for row, is_attack in zip(served, packed.is_attack.tolist(), strict=True):
        lawful[row.tobytes()] = lawful.get(row.tobytes(), 0) + (not is_attack)
    weighed = _weighed(packed, window, Weighing())
    assert {prefix: weight[1] for prefix, weight in weighed.items() if weight[1]} == pytest.approx(
        {prefix: count for prefix, count in lawful.items() if count}
    )
    assert weighed.keys() <= lawful.keys()


def test_an_attacks_prefixes_weigh_more_the_further_it_has_come() -> None:
    """The weights of an attack's prefixes rise, and together are the share asked for."""
    sessions = [
        Session(session_id="a", actions=tuple("ABCABC"), label=1),
        Session(session_id="l", actions=tuple("AAAA"), label=0),
    ]
    packed = pack(Sessions.of(sessions), Encoding("ABC", 8), IDLE_MS)
    shown = examples(packed, 8, Weighing(attack_share=0.25), 0)
    attack = shown.weights[0, :6]
    assert (np.diff(attack) > 0).all()
    assert attack.sum() / shown.weights.sum() == pytest.approx(0.25)
    whole = examples(packed, 8, Weighing(every_prefix=False), 0)
    assert (whole.weights > 0).sum(axis=1).tolist() == [1, 1]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e6])
@pytest.mark.parametrize("attack", [1e-12, 1.0, 1e12])
def test_weights_are_ratios(scale: float, attack: float) -> None:
    """Any multiple of a session's weight says the same, and what attacks weigh in all is asked for elsewhere."""
    sessions = Sessions.of(
        [Session(session_id=str(number), actions=("A", "B"), label=number % 2) for number in range(4)]
    )
    weights = scale * np.array([1.0, attack, 3.0, attack])
    packed = pack(replace(sessions, weights=weights), Encoding("AB", 2), IDLE_MS)
    shown = examples(packed, 2, Weighing(attack_share=0.25), 0).weights.sum(axis=1)
    assert shown / shown[0] == pytest.approx([1, 2 / 3, 3, 2 / 3])


def test_an_endless_session_is_sampled() -> None:
    """Of 5,000 actions few windows are taken, and they weigh as much as all would."""
    sessions = [Session(session_id="l", actions=("A",) * 5_000, label=0)]
    packed = pack(Sessions.of(sessions), Encoding("A", 4), IDLE_MS)
    made = Examples(packed, 4, Weighing())
    assert len(made) < 50
    first, again, other = (
        made.shown(np.arange(len(made)), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first.weights.sum() == other.weights.sum() == pytest.approx(5_000)
    assert first.windows.tobytes() == again.windows.tobytes()


def test_actions_beyond_the_vocabulary_are_told() -> None:
    """They are one token to the model: of another vocabulary's data nothing else would be said."""
    one = Session(session_id="s", actions=("A", "FLY", "A", "SWIM", "SWIM"), label=0)
    told = pack(Sessions.of([one]), Encoding("AB", 2, unknown_token=True), IDLE_MS).told
    assert told == ["3 of 5 actions are beyond the model's vocabulary, and all one to it: FLY, SWIM"]
    assert pack(Sessions.of([one]), Encoding(["A", "FLY", "SWIM"], 2, unknown_token=True), IDLE_MS).told == []


def test_times_that_a_model_reads_and_the_data_has_not_are_told() -> None:
    """A model that reads gaps takes all for the shortest then; one without says nothing."""
    plain = Sessions.of([Session(session_id="a", actions=("A", "B"), label=0)])
    (told,) = pack(plain, Encoding("ABC", 4, ENCODING_BOUNDS), IDLE_MS).told
    assert told.startswith("the model reads the gaps between actions, and not all sessions have times")
    assert pack(plain, Encoding("ABC", 4), IDLE_MS).told == []


def test_data_of_whose_actions_a_model_knows_nearly_none_is_refused() -> None:
    """One of 200 is not enough, one of 50 is; both vocabularies are named."""
    encoding = Encoding("ABC", 4, unknown_token=True)
    few, some = (
        Sessions.of([Session(session_id="a", actions=("open",) * count + ("A",), label=0)])
        for count in (199, 49)
    )
    with pytest.raises(
        DataError, match=r"knows 1 of 200 actions: the data's are (A, open|open, A), the model's A, B, C: "
    ):
        check_known(few, encoding)
    check_known(some, encoding)
