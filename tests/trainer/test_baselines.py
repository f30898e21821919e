"""What a network has to beat, and how it is told whether it does."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from detector.core.signals import FIRST, Kind, Signal
from trainer.comparing import (
    BASELINES,
    Compared,
    folded,
    reading,
    split_in_folds,
    table,
    variants_of,
    verdicts,
)
from trainer.data.declared import DEFAULT_SIGNALS
from trainer.data.sessions import Session, Sessions, Splits
from trainer.data.simulated import simulate
from trainer.data.splitting import split
from trainer.data.windows import Weighing, pack
from trainer.evaluation.baselines import NGrams, fit_boosted, fit_ngrams
from trainer.evaluation.figures import evaluate
from trainer.evaluation.scoring import Scored, score_sessions
from trainer.training.config import TrainingConfig
from trainer.training.defaults import encoding_for

IDLE_MS = 1_800_000


def chains(count: int, seed: int, length: int) -> Sessions:
    """Sessions of two chains over six actions, whose transitions differ by some per cent; half of them attacks."""
    names, rng = np.array(list("ABCDEF")), np.random.RandomState(0)
    lawful = rng.dirichlet(np.ones(6) * 3, 6)
    attack = lawful * np.exp(rng.normal(0, 0.1, (6, 6)))
    steps = [np.cumsum(one / one.sum(axis=1, keepdims=True), axis=1) for one in (lawful, attack)]
    rng = np.random.RandomState(seed)
    rows = []
    for number in range(count):
        codes = [0]
        for drawn in rng.uniform(size=length - 1):
            codes.append(min(5, int(np.searchsorted(steps[number % 2][codes[-1]], drawn))))
        rows.append(Session(session_id=f"{seed} {number}", actions=tuple(names[codes]), label=number % 2))
    return Sessions.of(rows)


def test_pairs_of_actions_tell_two_chains_apart() -> None:
    """By the last of 800 actions their order has mostly told which chain a session is of."""
    model, tested = fit_ngrams(chains(200, 1, 800), 1), chains(100, 2, 800)
    last = model.scores(tested)[tested.starts[1:] - 1]
    assert roc_auc_score(tested.labels, last) > 0.9


@given(data=st.data())
def test_a_score_is_that_of_the_session_so_far(data: st.DataObject) -> None:
    """Each is the logistic function of the shares of the actions and pairs up to there, whatever comes beside or after."""
    actions = st.lists(st.sampled_from(["a", "b", "c", "new"]), min_size=1, max_size=8)
    rows = data.draw(st.lists(actions, min_size=1, max_size=4))
    sessions = Sessions.of(
        [Session(session_id=str(number), actions=tuple(one), label=0) for number, one in enumerate(rows)]
    )
    known = ("c", "a", "b")
    weights = {("a",): 1.0, ("b",): -2.0, ("a", "b"): 3.0, ("b", "b"): -1.0}
    code = {name: number for number, name in enumerate(known)}
    codes = {gram: code[gram[-1]] + (code[gram[0]] + 1) * 4 * (len(gram) - 1) for gram in weights}
    order = sorted(weights, key=codes.__getitem__)
    grams = np.array([codes[gram] for gram in order])
    model = NGrams(known, grams, np.array([*(weights[gram] for gram in order), 0.5]), -0.25)
    expected = []
    for row in rows:
        for count in range(1, len(row) + 1):
            prefix = row[:count]
            seen = [(one,) for one in prefix] + list(itertools.pairwise(prefix))
            logit = -0.25 + sum(weights.get(gram, 0.0) for gram in seen) / (count + 50) + 0.5 * np.log(count)
            expected.append(1 / (1 + np.exp(-logit)))
    assert model.scores(sessions).tolist() == pytest.approx(expected, rel=1e-5)


def test_trees_learn() -> None:
    """Boosted trees tell attacks from lawful sessions on realistic traffic."""
    parts = split(simulate(1_500, 600, 5))
    encoding = encoding_for(parts.train, 12)
    boosted = fit_boosted(parts.train, encoding, Weighing(), IDLE_MS, 1)
    scored = score_sessions(boosted.score, encoding, parts.test, IDLE_MS)
    attack = scored.labels == 1
    assert np.median(scored.highest()[attack]) > np.quantile(scored.highest()[~attack], 0.9)


def test_trees_read_signals() -> None:
    """Where nothing but a signal tells attacks from lawful sessions, they are told apart."""
    sessions = chains(400, 3, 4)
    amount = Signal(name="size", kind=Kind.MAGNITUDE, of="amount", bounds=(1.0,))
    encoding = encoding_for(sessions, 4, signals=(amount,))
    told = (FIRST + (sessions.targets == 1)).astype(np.uint8)[:, np.newaxis]
    sessions = replace(sessions, signals=told)
    boosted = fit_boosted(sessions, encoding, Weighing(), IDLE_MS, 1)
    scored = score_sessions(boosted.score, encoding, sessions, IDLE_MS)
    attack = scored.labels == 1
    assert scored.highest()[attack].min() > scored.highest()[~attack].max()


def test_an_ablation_is_trained_on_the_signals_that_are_left() -> None:
    """One of each kind that is declared, with the columns of the others; without signals there is none to take away."""
    kinds = {one.kind for one in DEFAULT_SIGNALS}
    config = TrainingConfig(signals=DEFAULT_SIGNALS)
    names = [one.name for one in variants_of(config)]
    assert {name for name in names if name.removeprefix("without ") in kinds} == {
        f"without {one}" for one in kinds
    }
    assert not {one.name for one in variants_of(TrainingConfig())} & {
        f"without {one}" for one in (*Kind, "signals")
    }
    sessions = chains(5, 2, 4)
    columns = np.tile(np.arange(len(DEFAULT_SIGNALS), dtype=np.uint8), (len(sessions.actions), 1))
    parts = Splits(*[replace(sessions, signals=columns)] * 3)
    left = reading(parts, DEFAULT_SIGNALS, DEFAULT_SIGNALS[3:5]).test.signals
    assert left is not None
    assert left[0].tolist() == [3, 4]


def _compared(name: str, shift: float, *signals: Signal) -> Compared:
    """A model that scores attacks higher by `shift`."""
    sessions = chains(400, 3, 4)
    noise = np.random.RandomState(len(name)).uniform(0, 0.5, len(sessions.actions))
    scores = (noise + shift * (sessions.targets == 1)).astype(np.float32)
    scored = Scored(sessions, pack(sessions, encoding_for(sessions, 4, signals=signals), IDLE_MS), scores)
    return Compared(name, "1", None, scored, evaluate(scored, 0.5))


def test_a_network_that_does_not_beat_the_baselines_is_told() -> None:
    """Better beyond chance, better but not beyond doubt, or not better: each network against each baseline."""
    rows = [_compared(BASELINES[0], 0.2), _compared(BASELINES[1], 0.4), _compared("network", 0.3)]
    first, second = verdicts(rows, None)
    assert first.startswith("network beats logistic regression on n-grams: PR-AUC ")
    assert second.startswith("network does NOT beat gradient-boosted trees: PR-AUC ")
    assert "+0." in first
    assert "-0." in second


def test_that_the_regression_reads_no_signals_is_told_where_the_network_does() -> None:
    """One line more, so that nobody takes the gain of signals for that of the network."""
    baselines = [_compared(name, 0.2) for name in BASELINES]
    amount = Signal(name="size", kind=Kind.MAGNITUDE, of="amount", bounds=(1.0,))
    *_, last = verdicts([*baselines, _compared("network", 0.3, amount)], None)
    assert last.startswith("logistic regression on n-grams reads actions alone")
    assert not any("alone" in line for line in verdicts([*baselines, _compared("network", 0.3)], None))


def test_tables_of_one_test_part_and_of_several() -> None:
    """A row a model, with intervals; of folds the mean, and the lowest and highest."""
    rows = [_compared(BASELINES[0], 0.2), _compared("network", 0.3)]
    header, lines = table(rows)
    assert header[:4] == ("model", "parameters", "ROC-AUC", "PR-AUC")
    assert "recall at 1 % false alarms" in header, "200 lawful sessions resolve no less"
    assert [line[0] for line in lines] == [BASELINES[0], "network"]
    first, second = rows[0].figures.estimates["roc_auc"].value, rows[1].figures.estimates["roc_auc"].value
    (line,) = folded([[rows[0]], [rows[1]]]).rows
    assert line[1] == f"{(first + second) / 2:.3f} ({first:.3f} to {second:.3f})"


def test_each_session_is_tested_on_in_one_fold() -> None:
    """And neither trained on nor used for the threshold there."""
    sessions = simulate(200, 60, 9)
    tested = []
    for train, valid, test in split_in_folds(sessions, 4, 1):
        assert (
            len({*train.ids, *valid.ids, *test.ids}) == len(train) + len(valid) + len(test) == len(sessions)
        )
        assert 0 < (valid.labels == 1).sum() < len(valid) < len(train)
        tested += test.ids.tolist()
    assert sorted(tested) == sorted(sessions.ids)
