"""The packaged model: bits that no batch changes, what it blocks on traffic it has not seen, and what it lets be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.encoding import UNKNOWN_ACTION, UnknownActionError
from detector.model.artifact import Model, UnknownActions, default_model_path, load_model
from detector.model.scorer import CHUNK_WINDOWS
from producer.behaviour import seed as seed_preset
from producer.behaviour.attacks import ATTACK_FAMILIES
from trainer.data.simulated import simulate, simulated
from trainer.data.windows import every_window
from trainer.evaluation.figures import evaluate
from trainer.evaluation.scoring import NEVER, Scored, score_with_model

IDLE_TIMEOUT_MS = 1_800_000


@pytest.fixture(scope="module")
def model() -> Model:
    """The packaged model."""
    return load_model(default_model_path())


@pytest.fixture(scope="module")
def scored(model: Model) -> Scored:
    """Realistic sessions of a seed of their own, a score an action."""
    return score_with_model(model, simulate(8_000, 1_500, 77), IDLE_TIMEOUT_MS)


@pytest.fixture(scope="module")
def windows(scored: Scored, model: Model) -> NDArray[np.void]:
    """Some served windows of every length."""
    return next(every_window(scored.packed, model.encoding.window))[:3_000]


def _bits(scores: NDArray[np.float32]) -> list[int]:
    bits: list[int] = scores.view(np.uint32).tolist()
    return bits


def test_every_batch_gives_the_same_bits(model: Model, windows: NDArray[np.void]) -> None:
    """Batches of every size to a chunk and one more score as windows scored one by one; padding and all."""
    alone = np.concatenate([model.score(windows[index : index + 1]) for index in range(len(windows))])
    rng = np.random.RandomState(0)
    for size in [*range(1, 70), *range(70, CHUNK_WINDOWS, 29), CHUNK_WINDOWS, CHUNK_WINDOWS + 1]:
        start = rng.randint(0, len(windows) - size + 1)
        assert _bits(model.score(windows[start : start + size])) == _bits(alone[start : start + size]), size


def test_what_it_blocks_on_traffic_it_has_not_seen(scored: Scored, model: Model) -> None:
    """At its own threshold most attacks are blocked and few lawful sessions; every family is caught now and then."""
    figures = evaluate(scored, model.threshold, 0.01)
    numbers = figures.numbers()
    assert numbers["recall"] > 0.75
    assert numbers["false_alarm_rate"] < 0.003
    assert numbers["roc_auc"] > 0.99
    assert {family.name for family in ATTACK_FAMILIES} == set(figures.by_family)
    assert min(group.share.value for group in figures.by_family.values()) > 0.2


def test_lawful_sensitive_sessions_are_mostly_allowed(scored: Scored, model: Model) -> None:
    """Nearly all password changes and new recipients pass."""
    figures = evaluate(scored, model.threshold, 0.01)
    for kind in ("password_change", "new_recipient", "large_transfer", "new_device"):
        assert figures.by_lawful_kind[kind].share.value < 0.04, kind


def test_time_matters(model: Model) -> None:
    """The notebook's quick drain scores higher in seconds than in minutes."""
    actions = ["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"]
    encoding = model.encoding
    quick, slow = model.score(
        encoding.windows(
            [encoding.steps(actions, [0, 4_000, 9_000]), encoding.steps(actions, [0, 90_000, 240_000])]
        )
    ).tolist()
    assert quick > 3 * slow


def test_the_notebooks_attacks_at_the_notebooks_pace(model: Model) -> None:
    """Most of the seed preset's attacks are blocked and few of its lawful sessions, though it never saw that preset."""
    sessions = simulated(seed_preset.sessions(2_200, 5))
    blocks = score_with_model(model, sessions, IDLE_TIMEOUT_MS).first_blocks(model.threshold)
    blocked = blocks != NEVER
    assert blocked[sessions.labels == 1].mean() > 0.5
    assert blocked[sessions.labels == 0].mean() < 0.005


def test_unknown_actions_are_refused_or_scored_as_configured(model: Model) -> None:
    """By default an action beyond the vocabulary is refused; with the token it is a step named UNKNOWN_ACTION."""
    assert not model.encoding.knows("FLY")
    with pytest.raises(UnknownActionError, match="FLY"):
        model.encoding.step("FLY", None)
    told = load_model(default_model_path(), UnknownActions.TOKEN)
    steps = told.encoding.steps(["LOGIN", "FLY"], [0, 500])
    assert told.encoding.knows("FLY")
    assert told.encoding.actions(steps) == ["LOGIN", UNKNOWN_ACTION]
    assert 0 <= float(told.score(told.encoding.windows([steps]))[0]) <= 1
    assert told.encoding.fingerprint != model.encoding.fingerprint


def test_canaries_are_sensitive(model: Model) -> None:
    """The packaged canaries include scores in between, with times, which a fault anywhere would move."""
    canaries = model.metadata.canaries
    assert sum(0.1 < canary.score < 0.9 for canary in canaries) >= 5
    assert all(canary.times_ms is not None for canary in canaries)
