"""Who learns from what: every network is judged by sessions of both kinds that it has not seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.test_splitting import plain
from trainer.data.sessions import DataError, Sessions
from trainer.data.splitting import split
from trainer.training.checkpoint import CheckpointError
from trainer.training.config import TrainingConfig
from trainer.training.defaults import Schedule
from trainer.training.ensemble import pairs_for
from trainer.training.fitting import Observer
from trainer.training.network import Shape
from trainer.training.pipeline import train


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(12, 200), rarer=st.integers(3, 30), attacks_are_rarer=st.booleans(),
    accounts=st.sampled_from([None, 5, 60]), members=st.sampled_from([None, 1, 4, 20]), seed=st.integers(0, 50),
)  # fmt: skip
def test_however_few_of_a_kind_each_judge_has_both(
    count: int, rarer: int, accounts: int | None, members: int | None, seed: int, *, attacks_are_rarer: bool
) -> None:
    """From three attacks, or three lawful sessions, on: no network is ended by a loss that one kind alone gives."""
    attacks = rarer if attacks_are_rarer else count - rarer
    if not 3 <= attacks <= count - 3:
        return
    try:
        parts = split(Sessions.of(plain(count, attacks, accounts=accounts, seed=seed)))
    except DataError:  # as few accounts as that have no three parts
        return
    pairs = pairs_for(parts, members, Schedule())
    assert 1 <= len(pairs) <= (members or 4)
    for shown, judge in pairs:
        assert set(judge.labels.tolist()) == {0, 1}
        assert set(shown.labels.tolist()) == {0, 1}
        assert not set(shown.ids) & set(judge.ids)


@pytest.mark.parametrize("members", [2, 4])
def test_members_are_judged_by_all_between_them(members: int) -> None:
    """Each session of the training and the validation part is one network's judge, and the others learn from it."""
    parts = split(Sessions.of(plain(200, 40)))
    pairs = pairs_for(parts, members, Schedule())
    judged = np.concatenate([judge.ids for _, judge in pairs])
    assert sorted(judged) == sorted([*parts.train.ids, *parts.valid.ids])
    assert len(pairs) == members


class _EndsAtOnce(Observer):
    def on_validation(self, step: int, loss: float, valid_loss: float) -> None:
        if step > 2 or not np.isfinite(loss + valid_loss):
            raise KeyboardInterrupt


def test_a_network_that_learned_from_other_folds_is_not_gone_on_with(tmp_path: Path) -> None:
    """It would be judged by sessions that it has learned from, if there are more or fewer members than before."""
    schedule = Schedule(steps=50, batch_size=32)
    config = TrainingConfig(schedule=schedule, shape=Shape("gru", 2, 2), window=4)
    parts = split(Sessions.of(plain(200, 100)))
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, members=2), parts, _EndsAtOnce(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]
    with pytest.raises(CheckpointError, match="is of another training"):
        train(replace(config, members=3), parts, None, tmp_path)
