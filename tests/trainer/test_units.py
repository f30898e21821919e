"""Events, sessions and accounts: what is an example, which score it has, and how two models compare on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from detector.core.encoding import Encoding
from trainer.data.sessions import UNLABELLED, Categories, DataError, Session, Sessions
from trainer.data.windows import pack
from trainer.evaluation.exporting import check_path, write_scores
from trainer.evaluation.figures import differences, evaluate
from trainer.evaluation.scoring import Scored
from trainer.evaluation.units import judge, labels_by

ENCODING = Encoding(["PAY"], 4)


def _scored(targets: list[list[int]], scores: list[list[float]], accounts: list[str] | None = None) -> Scored:
    rows = [
        Session(session_id=f"s{number}", actions=("PAY",) * len(one), label=0)
        for number, one in enumerate(targets)
    ]
    sessions = replace(
        Sessions.of(rows),
        targets=np.array([one for row in targets for one in row], np.int8),
        accounts=None if accounts is None else Categories.of(accounts),
    )
    return Scored(
        sessions,
        pack(sessions, ENCODING, 10**9),
        np.array([one for row in scores for one in row], np.float32),
    )


def test_unlabelled_events_are_no_examples() -> None:
    """Per event, each labelled one has the score after it; per session, one without any label is left out."""
    scored = _scored(
        [[0, UNLABELLED, 1], [UNLABELLED, UNLABELLED], [0, 0]], [[0.1, 0.9, 0.7], [0.8, 0.8], [0.2, 0.3]]
    )
    events = judge(scored, "event")
    assert events.labels.tolist() == [False, True, False, False]
    assert events.scores.tolist() == pytest.approx([0.1, 0.7, 0.2, 0.3])
    assert labels_by(scored.sessions, "event").tolist() == events.labels.tolist()
    sessions = judge(scored, "session")
    assert labels_by(scored.sessions, "session").tolist() == sessions.labels.tolist()
    assert sessions.labels.tolist() == [True, False]
    assert sessions.scores.tolist() == pytest.approx([0.7, 0.3])
    told = replace(scored, sessions=replace(scored.sessions, labels_of="event"))
    assert evaluate(told, 0.5).examples == 4, "what is labelled is judged"


def test_an_account_has_the_highest_of_its_sessions() -> None:
    """And is attacked if one of them is; without accounts that is an error, as are examples of one kind."""
    scored = _scored([[0], [1], [0], [0]], [[0.9], [0.6], [0.2], [0.4]], ["x", "x", "y", "y"])
    judged = judge(scored, "account")
    assert judged.labels.tolist() == [True, False]
    assert judged.scores.tolist() == pytest.approx([0.9, 0.4])
    assert labels_by(scored.sessions, "account").tolist() == judged.labels.tolist()
    with pytest.raises(DataError, match="have no accounts"):
        judge(_scored([[0], [1]], [[0.0], [0.0]]), "account")
    with pytest.raises(DataError, match="0 attacks and 2 lawful events: expected some of both"):
        judge(_scored([[0, 0]], [[0.0, 0.0]]), "event")


def _events(seed: int, shift: float, accounts: int = 40) -> Scored:
    """Events of accounts, whose attacks a model scores higher by `shift`; of one seed, the same events."""
    rng = np.random.RandomState(seed)
    targets = rng.randint(0, 4, (4 * accounts, 5)) == 0
    noise = rng.uniform(0, 0.6, targets.shape)
    owners = [f"account {number % accounts}" for number in range(4 * accounts)]
    return _scored(targets.astype(int).tolist(), (noise + shift * targets).tolist(), owners)


def test_figures_of_events_are_those_of_scikit_learn() -> None:
    """Area, average precision and both F1, at the events' own share of attacks; nothing is said of sessions."""
    scored = _events(0, 0.2)
    figures = evaluate(scored, 0.5, unit="event", at_k=[10])
    labels, scores = scored.sessions.targets == 1, scored.scores
    numbers, flagged = figures.numbers(), scores >= np.float32(0.5)
    assert numbers["roc_auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert numbers["pr_auc"] == pytest.approx(average_precision_score(labels, scores))
    assert numbers["f1"] == pytest.approx(f1_score(labels, flagged))
    assert numbers["macro_f1"] == pytest.approx(f1_score(labels, flagged, average="macro"))
    assert figures.at_k[10].precision == pytest.approx(labels[np.argsort(-scores)[:10]].mean())
    assert not figures.by_length
    assert not [name for name in numbers if name.startswith(("last_", "blocked_"))]


def test_two_models_differ_by_what_pairs_of_scores_say() -> None:
    """A better one is better beyond its interval, where each alone would not tell; a model does not differ from itself."""
    worse, better = _events(1, 0.2), _events(1, 0.23)
    found = differences((worse, 0.5), (better, 0.5), unit="event")["roc_auc"]
    one, two = (evaluate(scored, 0.5, unit="event").estimates["roc_auc"] for scored in (worse, better))
    assert (found.first, found.second) == (one.value, two.value)
    assert found.second_less_first.low > 0
    assert one.high > two.low
    for name, same in differences((worse, 0.5), (worse, 0.5), unit="event").items():
        assert same.second_less_first.value == 0, name
        assert same.second_less_first.low < 0 < same.second_less_first.high, name


def test_accounts_widen_intervals() -> None:
    """What few accounts do again and again says less than as many events of many accounts."""
    rng = np.random.RandomState(0)
    attacked = rng.uniform(size=30) < 0.4
    scores = np.repeat(attacked * 0.2 + rng.uniform(0, 0.6, 30), 20).reshape(30, 20)
    targets = np.repeat(attacked, 20).reshape(30, 20).astype(int)
    few = _scored(targets.tolist(), scores.tolist(), [f"a{number}" for number in range(30)])
    many = _scored(targets.reshape(-1, 1).tolist(), scores.reshape(-1, 1).tolist())
    widths = [
        one.high - one.low
        for scored in (few, many)
        for one in [evaluate(scored, 0.5, unit="event").estimates["recall"]]
    ]
    assert widths[0] > 2 * widths[1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_are_written_for_whoever_has_figures_of_their_own(tmp_path: Path, suffix: str) -> None:
    """A row a session and a row an event, from which the same figures follow."""
    scored = _scored([[0, 1], [0, 0, 0]], [[0.875, 0.5], [0.25, 0.75, 0.125]], ["x", "y"])
    tables = []
    for events in (False, True):
        path = tmp_path / f"{events}{suffix}"
        write_scores(path, scored, 0.6, events=events)
        tables.append(pl.read_csv(path) if suffix == ".csv" else pl.read_parquet(path))
    sessions, of_events = tables
    assert sessions.drop("type").rows() == [
        ("s0", "x", 1, 2, 0.5, 0.5, 1),
        ("s1", "y", 0, 3, 0.75, 0.125, 2),
    ]
    assert sessions.columns == [
        "session_id",
        "account_id",
        "type",
        "label",
        "actions",
        "highest",
        "last",
        "blocked_at",
    ]
    assert of_events.rows()[1] == ("s0", 2, "PAY", 1, 0.5)
    assert of_events["score"].to_list() == scored.scores.tolist()
    for name, wanted in (("s.xlsx", r"expected \.parquet or \.csv"), ("no/s.csv", "a folder that is there")):
        with pytest.raises(DataError, match=wanted):
            check_path(tmp_path / name)
