"""The notebook's model: what it blocks, and that no lawful session of the seed preset comes near."""

import numpy as np
import pytest

from detector.contract.actions import Action
from detector.model.artifact import Model, load_model, packaged_model_path
from producer.behaviour import seed as seed_preset
from tests.model.models import normal_prefixes
from trainer.data.sessions import sha256_of
from trainer.data.simulated import seed_preset as simulated_preset
from trainer.training.notebook import NOTEBOOK, SESSIONS, TEST_SHARE

QUICK_DRAIN = ["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE", "LOGOUT"]
PASSWORD_RESET = ["LOGIN", "CHANGE_PASSWORD", "TRANSFER_LARGE", "LOGOUT"]


@pytest.fixture(scope="module")
def model() -> Model:
    """The packaged model of the seed preset."""
    return load_model(packaged_model_path("seed"))


def _scores(model: Model, sessions: list[list[str]]) -> list[float]:
    scores: list[float] = model.score(
        model.encoding.windows([model.encoding.steps(each) for each in sessions])
    ).tolist()
    return scores


@pytest.mark.parametrize(
    ("session", "blocked"),
    [
        (["LOGIN", "VIEW_BALANCE", "VIEW_TRANSACTIONS", "LOGOUT"], False),
        (QUICK_DRAIN, True),
        (PASSWORD_RESET, True),
    ],
)
def test_the_notebooks_three_sequences(model: Model, session: list[str], *, blocked: bool) -> None:
    """The notebook's normal session is allowed, its two attacks are blocked."""
    assert (_scores(model, [session])[0] >= model.threshold) is blocked


def test_no_prefix_of_any_normal_session_reaches_the_threshold(model: Model) -> None:
    """All 13,121 prefixes that the seed preset's normal sessions can have stay below it."""
    sessions = normal_prefixes()
    assert len(set(map(tuple, sessions))) == 13_121
    assert max(_scores(model, sessions)) < model.threshold


def test_the_enumeration_above_holds_what_the_preset_draws() -> None:
    """Simulated normal sessions are among those enumerated, the longest included."""
    possible = set(map(tuple, normal_prefixes()))
    drawn = [
        tuple(session.actions) for session in seed_preset.sessions(5_000, seed=3) if not session.is_attack
    ]
    assert len(drawn) > 4_000
    assert set(drawn) <= possible
    assert max(map(len, drawn)) == max(map(len, possible)) == 9


@pytest.mark.parametrize("attack", [QUICK_DRAIN, PASSWORD_RESET])
def test_attacks_are_blocked_before_the_money_has_moved_on(model: Model, attack: list[str]) -> None:
    """Each attack reaches the threshold at its large transfer at the latest, and not with its LOGIN."""
    scores = _scores(model, [attack[:end] for end in range(1, len(attack) + 1)])
    first = next(index for index, score in enumerate(scores) if score >= model.threshold)
    assert 0 < first <= attack.index("TRANSFER_LARGE")


def test_the_packaged_model_is_of_todays_defaults(model: Model) -> None:
    """Its parameters and its data are those that `python -m trainer train` would use now."""
    asked = {
        name: getattr(NOTEBOOK.schedule, name) for name in ("steps", "batch_size", "learning_rate", "seed")
    }
    asked |= NOTEBOOK.shape._asdict() | {"every_prefix": False, "members": 1}
    assert asked.items() <= model.metadata.training.items()
    assert (model.metadata.preset, model.metadata.window, model.threshold) == ("seed", 10, 0.8)
    assert (model.reference.name, model.reference.version) == (NOTEBOOK.name, NOTEBOOK.version)
    assert list(model.encoding.vocabulary) == [action.value for action in Action]
    assert model.metadata.data_sha256 == sha256_of(
        simulated_preset(SESSIONS, NOTEBOOK.schedule.seed, TEST_SHARE)
    )


def test_canaries_are_sensitive(model: Model) -> None:
    """The packaged canaries include scores in between, which a fault anywhere in the network would move."""
    scores = np.array([canary.score for canary in model.metadata.canaries])
    assert ((scores > 0.1) & (scores < 0.9)).sum() >= 5
